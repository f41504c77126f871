//! Troubles with a member, and the party that each one speaks against.

use crate::contact::Standing;
use crate::machine::{self, Shortage};
use crate::process::last_line;
use ninelives_evidence::ended::Ended;
use ninelives_evidence::limits;
use ninelives_evidence::member::Engine;
use ninelives_evidence::resource::Resource;
use ninelives_evidence::stretched::Stretched;
use ninelives_evidence::verdict::findings::parts::EXIT_INVARIANT;
use ninelives_evidence::verdict::findings::{Harness, Lack, Members, What};
use ninelives_evidence::verdict::{Class, Finding};

const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;

/// Reason why a member is not where the cycle needs it.
#[derive(Debug)]
pub enum Trouble {
    /// It ended, and not by a signal of ours.
    Died {
        member: u64,
        ended: Ended,
        /// It had been serving in this life.
        served: bool,
        /// It had lived before: it starts from the directory that our kill left.
        lived_before: bool,
        /// The last line it wrote that was not an event.
        remark: Option<String>,
    },
    /// It is alive, and did not do `what` within `bound`.
    Late { member: u64, what: String, bound: Stretched },
    /// It was late, and its own account gives the reason: it refused each snapshot that it was
    /// sent.
    SnapshotsRefused { member: u64, what: String, bound: Stretched, refused: u64, last: String },
    /// `migrate` on its dead directory ended with neither success nor our kill.
    MigrateFailed { member: u64, to: Engine, ended: Ended },
    /// `snapshot restore` of a snapshot that was saved whole ended with neither success nor our
    /// kill.
    RestoreFailed { member: u64, into: Engine, ended: Ended },
    /// A learner was given an id that a member before it had.
    IdUsedBefore { member: u64 },
    /// The step proved nothing, and no member can be blamed; or this machine lacks something that
    /// the scenario asks for.
    Unproven(Lack),
    /// The machine had no room for a copy of the member's dead directory.
    NoRoomToInspect { member: u64, why: String },
    /// The harness could not do its part.
    Harness(anyhow::Error),
}

impl Trouble {
    /// The finding for this trouble. The only fault of these nodes was our own clean crash: a node
    /// that dies by itself, or refuses to start after the crash, broke a promise.
    pub fn finding(&self, cycle: Option<u32>) -> Finding {
        self.finding_with(None, cycle)
    }

    /// The same finding. It quotes `words`, the end of the member's log, if the member made no
    /// remark.
    fn finding_with(&self, words: Option<&str>, cycle: Option<u32>) -> Finding {
        let finding = match (Finding::new(self.what(words)), self.accused()) {
            (finding, Some(member)) => finding.at_member(member),
            (finding, None) => finding,
        };
        match cycle {
            Some(cycle) => finding.in_cycle(cycle),
            None => finding,
        }
    }
}

impl Trouble {
    fn what(&self, words: Option<&str>) -> What {
        match self {
            Trouble::Died { member, ended, .. }
            | Trouble::MigrateFailed { member, ended, .. }
            | Trouble::RestoreFailed { member, ended, .. }
                if by_a_stranger(*ended) =>
            {
                Members::EndedFromOutside { member: *member, ended: *ended }.into()
            }
            Trouble::Died { member, ended, served, lived_before, remark } => {
                let remark = remark.clone().or_else(|| words.and_then(quotable));
                let (member, ended) = (*member, *ended);
                let what = match (served, lived_before) {
                    (true, _) => Members::Died { member, ended, remark },
                    (false, true) => Members::RefusedToStart { member, ended, remark },
                    // The program never ran, which says nothing about durability.
                    (false, false) => Members::NeverStarted { member, ended, remark },
                };
                what.into()
            }
            Trouble::Late { member, what, bound } => {
                let (member, awaited, bound) = (*member, what.clone(), *bound);
                Members::Late { member, awaited, bound }.into()
            }
            Trouble::SnapshotsRefused { member, what, bound, refused, last } => {
                let (member, awaited, bound) = (*member, what.clone(), *bound);
                let (refused, last) = (*refused, last.clone());
                Members::SnapshotsRefused { member, awaited, bound, refused, last }.into()
            }
            Trouble::MigrateFailed { member, to, ended } => {
                Members::MigrationFailed { member: *member, to: *to, ended: *ended }.into()
            }
            Trouble::RestoreFailed { member, into, ended } => {
                Members::RestorationFailed { member: *member, into: *into, ended: *ended }.into()
            }
            Trouble::IdUsedBefore { member } => Members::IdUsedBefore { member: *member }.into(),
            Trouble::Unproven(what) => what.clone().into(),
            Trouble::NoRoomToInspect { member, why } => {
                Harness::NoRoomToInspect { member: *member, why: why.clone() }.into()
            }
            Trouble::Harness(error) => Harness::HarnessFailed { error: format!("{error:#}") }.into(),
        }
    }

    /// The member that its finding is about.
    fn accused(&self) -> Option<u64> {
        match self {
            Trouble::RestoreFailed { member, .. } => Some(*member),
            Trouble::NoRoomToInspect { .. } => None,
            other => other.member(),
        }
    }
}

impl Trouble {
    /// The finding for this trouble on a machine that was `short` of something a moment ago.
    /// `words`: the last words of the member.
    pub fn weighed(&self, short: &[Shortage], words: Option<&str>, cycle: Option<u32>) -> Finding {
        let finding = self.finding_with(words, cycle);
        match self.by_the_machine(short, words) {
            Some(why) => excused(finding, &why),
            None => finding,
        }
    }

    /// The shortage of the machine, if one explains the trouble: by the kernel's own account, and
    /// never by a member's words alone.
    fn by_the_machine(&self, short: &[Shortage], words: Option<&str>) -> Option<String> {
        let of = |resource| short.iter().find(|one| one.resource == resource).map(Shortage::to_string);
        match self {
            Trouble::Harness(error) => {
                machine::of_error(error).map(|_| "the harness's own system call says so".to_owned())
            }
            Trouble::Died { ended, .. } | Trouble::MigrateFailed { ended, .. } => match ended {
                Ended::KilledByOther(SIGKILL) => of(Resource::Memory),
                Ended::KilledByOther(SIGXCPU) => Some("the caller's limit on processor time".to_owned()),
                Ended::KilledByOther(SIGXFSZ) => Some("the caller's limit on the size of files".to_owned()),
                // The program never ran, so its end says nothing about it.
                _ if self.finding(None).class() == Class::HarnessError => short.first().map(Shortage::to_string),
                // No shortage excuses a broken invariant: what the member had written must not
                // become wrong.
                Ended::Exited(EXIT_INVARIANT) => None,
                _ => of(machine::of_words(words?)?),
            },
            Trouble::Late { .. } | Trouble::SnapshotsRefused { .. } => short.first().map(Shortage::to_string),
            _ => None,
        }
    }

    /// The member that it is about.
    pub fn member(&self) -> Option<u64> {
        match self {
            Trouble::Died { member, .. }
            | Trouble::Late { member, .. }
            | Trouble::SnapshotsRefused { member, .. }
            | Trouble::MigrateFailed { member, .. }
            | Trouble::IdUsedBefore { member }
            | Trouble::NoRoomToInspect { member, .. } => Some(*member),
            _ => None,
        }
    }
}

/// The shortages of the machine that may explain a trouble of a member. `made_up`: it was the fault
/// filesystem that told this member that its disk is full.
pub fn credible(mut short: Vec<Shortage>, made_up: bool) -> Vec<Shortage> {
    short.retain(|one| !(made_up && one.resource == Resource::Disk));
    short
}

/// `finding`, blamed on the machine and not on a member, with the reason `why`.
pub fn excused(finding: Finding, why: &str) -> Finding {
    let what = Harness::MachineRanShort { short: why.to_owned(), outcome: Box::new(finding.what) };
    Finding { what: what.into(), ..finding }
}

/// Whether a stranger ended the process: a process never sends itself HUP, INT, KILL or TERM, a
/// node exits with 0 only when a signal tells it to stop, and an end that was not observed cannot
/// be blamed on the process.
fn by_a_stranger(ended: Ended) -> bool {
    matches!(ended, Ended::Exited(0) | Ended::KilledByOther(1 | 2 | 9 | 15) | Ended::Unknown)
}

impl Trouble {
    /// Lateness with the late member's own account of its snapshots. Refused snapshots explain it
    /// only if none was installed.
    pub fn with_account(self, account: &Standing) -> Self {
        match self {
            Trouble::Late { member, what, bound }
                if account.snapshots_refused > 0 && account.snapshots_installed == 0 =>
            {
                let (refused, last) = (account.snapshots_refused, account.last_snapshot_refusal.clone());
                Trouble::SnapshotsRefused { member, what, bound, refused, last }
            }
            other => other,
        }
    }
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Self {
        Trouble::Harness(error)
    }
}

/// The last line of `words`, cut to what a sentence can hold.
fn quotable(words: &str) -> Option<String> {
    Some(last_line(words)?.trim().chars().take(limits::REMARK_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn class(ended: Ended, served: bool, lived_before: bool) -> Class {
        Trouble::Died { member: 2, ended, served, lived_before, remark: None }.finding(Some(4)).class()
    }

    #[test]
    fn blame_goes_to_whom_it_belongs() {
        assert_eq!(class(Ended::Exited(65), false, true), Class::RefusedAfterOwnCrash);
        assert_eq!(class(Ended::Exited(1), false, false), Class::HarnessError);
        assert_eq!(class(Ended::Exited(65), true, false), Class::NodeDied);
        assert_eq!(class(Ended::KilledByOther(6), true, true), Class::NodeDied);
        assert_eq!(class(Ended::KilledByOther(11), true, true), Class::NodeDied);
        for ended in [1, 2, 9, 15].map(Ended::KilledByOther).into_iter().chain([Ended::Exited(0), Ended::Unknown]) {
            assert_eq!(class(ended, true, true), Class::HarnessError, "{ended}");
            assert_eq!(class(ended, false, true), Class::HarnessError, "{ended}");
        }
        let late = Trouble::Late { member: 1, what: "serve".into(), bound: Stretched::idle(Duration::from_millis(30)) };
        assert_eq!(late.finding(None).class(), Class::Liveness);
    }

    #[test]
    fn a_death_is_told_with_the_last_line_of_the_log_if_the_member_said_nothing_else() {
        let died = |remark: Option<&str>| {
            let (ended, remark) = (Ended::Exited(1), remark.map(str::to_owned));
            Trouble::Died { member: 2, ended, served: false, lived_before: true, remark }
        };
        let told = |remark| died(remark).weighed(&[], Some("starting\nlisten: address in use\n\n"), None).what;
        for (remark, expected) in [(None, "listen: address in use"), (Some("panicked"), "panicked")] {
            let what = Members::RefusedToStart { member: 2, ended: Ended::Exited(1), remark: Some(expected.into()) };
            assert_eq!(told(remark), What::from(what));
        }
    }

    #[test]
    fn only_the_kernels_account_excuses_a_member() {
        let short = |resource| vec![Shortage { resource, found: "0 KiB free at /r".to_owned() }];
        let died = |ended, served| Trouble::Died { member: 2, ended, served, lived_before: true, remark: None };
        let class =
            |trouble: &Trouble, short: &[Shortage], words: Option<&str>| trouble.weighed(short, words, None).class();
        let (full, words) = (short(Resource::Disk), Some("write failed: No space left on device (os error 28)"));
        let failed = died(Ended::Exited(74), true);
        assert_eq!(class(&failed, &full, words), Class::MachineExhausted);
        assert_eq!(class(&failed, &[], words), Class::NodeDied, "a bug may say so too");
        assert_eq!(class(&failed, &full, Some("checksum mismatch")), Class::NodeDied, "of something else");
        assert_eq!(class(&failed, &full, None), Class::NodeDied);
        assert_eq!(class(&failed, &short(Resource::Memory), words), Class::NodeDied, "of another thing");
        let refused = died(Ended::Exited(1), false);
        assert_eq!(class(&refused, &full, words), Class::MachineExhausted);
        assert_eq!(
            class(&died(Ended::Exited(65), false), &full, words),
            Class::RefusedAfterOwnCrash,
            "E < N is not a shortage"
        );
        let killed = died(Ended::KilledByOther(9), true);
        assert_eq!(class(&killed, &short(Resource::Memory), None), Class::MachineExhausted);
        assert_eq!(class(&killed, &[], None), Class::HarnessError, "a stranger");
        assert_eq!(class(&died(Ended::KilledByOther(25), true), &[], None), Class::MachineExhausted);
        let late = Trouble::Late { member: 1, what: "serve".into(), bound: Stretched::idle(Duration::from_millis(30)) };
        assert_eq!((class(&late, &full, None), class(&late, &[], None)), (Class::MachineExhausted, Class::Liveness));
        let own = Trouble::Harness(anyhow::Error::new(std::io::Error::from_raw_os_error(28)).context("cannot copy"));
        let finding = own.weighed(&[], None, Some(3));
        assert_eq!((finding.class(), finding.cycle), (Class::MachineExhausted, Some(3)));
        let What::Harness(Harness::MachineRanShort { outcome, .. }) = finding.what else { panic!("{finding}") };
        assert!(matches!(*outcome, What::Harness(Harness::HarnessFailed { error }) if error.contains("cannot copy")));
    }

    /// A member that is told of a full disk by us has to live by what it promises.
    #[test]
    fn a_shortage_that_was_made_up_excuses_nothing() {
        let short = |resource| vec![Shortage { resource, found: "0 KiB free at /r".to_owned() }];
        let died =
            Trouble::Died { member: 2, ended: Ended::Exited(74), served: true, lived_before: true, remark: None };
        let class = |made_up| {
            let words = Some("write failed: No space left on device (os error 28)");
            died.weighed(&credible(short(Resource::Disk), made_up), words, None).class()
        };
        assert_eq!((class(false), class(true)), (Class::MachineExhausted, Class::NodeDied));
        assert_eq!(credible(short(Resource::Memory), true), short(Resource::Memory));
    }

    #[test]
    fn refused_snapshots_explain_lateness_only_if_none_was_installed() {
        let late = || Trouble::Late {
            member: 1,
            what: "apply index 9".into(),
            bound: Stretched::idle(Duration::from_millis(30)),
        };
        let account = |snapshots_refused, snapshots_installed| Standing {
            snapshots_refused,
            snapshots_installed,
            last_snapshot_refusal: "32 bytes short".into(),
            ..Standing::default()
        };
        let class = |refused, installed| late().with_account(&account(refused, installed)).finding(None).class();
        assert_eq!(class(0, 0), Class::Liveness);
        assert_eq!(class(4, 1), Class::Liveness);
        assert_eq!(class(4, 0), Class::SnapshotTransfer);
        let found = late().with_account(&account(4, 0)).finding(None);
        let What::Members(Members::SnapshotsRefused { refused, last, .. }) = &found.what else { panic!("{found}") };
        assert_eq!((*refused, last.as_str()), (4, "32 bytes short"));
    }
}
