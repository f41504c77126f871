//! Reading one fault of a step, and whether it can be carried out.

use super::{Ailment, At, DiskFault, Fault, Link, Power, When, Whom, corrupt, disk, restore, upgrade};
use crate::scenario::WhomKind;
use crate::subject::{self, Reach};
use ninelives_evidence::limits;
use std::collections::BTreeSet;

/// The fault, or the expected form instead. `Ok(None)`: it has none of the known forms.
///
/// # Errors
/// A form that is understood and must not be run.
pub(super) fn parse(text: &str) -> Result<Option<Fault>, String> {
    let Some((verb, rest)) = text.split_once(' ') else { return Ok(None) };
    Ok(match verb {
        "kill" => kill(rest),
        "cut" => cut(rest),
        "pause" => lasting(rest).map(|(whom, when, ms)| Fault::Pause { whom, when, ms }),
        "strangers" => rest.strip_prefix("for ").and_then(parse_ms).map(|ms| Fault::Strangers { ms }),
        "corrupt" => corrupt::parse(rest).map(Fault::Corrupt),
        "upgrade" => upgrade::parse(rest)?.map(Fault::Upgrade),
        "restore" => restore::parse(rest)?.map(Fault::Restore),
        // Forms in which a user might ask for amnesia.
        "replace" if rest.contains(" as ") => return Err(upgrade::WHY_NO_ID.to_owned()),
        _ => network(verb, rest).or_else(|| disk::parse(verb, rest).map(Fault::Disk)),
    })
}

/// `WHOM at WHEN`, with any number of `then at WINDOW hit N`; the last one may be `then cut at`.
fn kill(text: &str) -> Option<Fault> {
    let (text, last) = match text.rsplit_once(" then cut") {
        Some((text, cut)) => (text, Some(cut)),
        None => (text, None),
    };
    let (whom, places) = text.split_once(" at ")?;
    let (when, mut again) = parse_places(places)?;
    let power = match last {
        Some(cut) => {
            let (keep_percent, at) = keeping(cut)?;
            again.push(parse_at(at)?);
            Power::FailsLast { keep_percent }
        }
        None => Power::Stays,
    };
    Some(Fault::Kill { whom: parse_whom(whom)?, when, again, power })
}

/// `WHOM [keeping N%] at WHEN`, with any number of `then at WINDOW hit N`.
fn cut(text: &str) -> Option<Fault> {
    let (whom, rest) = text.split_at(text.find(" keeping ").or_else(|| text.find(" at "))?);
    let (keep_percent, places) = keeping(rest)?;
    let (when, again) = parse_places(places)?;
    Some(Fault::Kill { whom: parse_whom(whom)?, when, again, power: Power::Fails { keep_percent } })
}

fn parse_places(text: &str) -> Option<(When, Vec<At>)> {
    let mut places = text.split(" then at ");
    Some((parse_when(places.next()?)?, places.map(parse_at).collect::<Option<_>>()?))
}

/// The share in ` keeping N% at PLACES`, or 0 for ` at PLACES`, and the places.
pub(super) fn keeping(text: &str) -> Option<(u32, &str)> {
    let (share, places) = text.split_at(text.find(" at ")?);
    Some((parse_keeping(share)?, places.strip_prefix(" at ")?))
}

/// The share in ` keeping N%`; 0 is written without the words.
pub(super) fn parse_keeping(text: &str) -> Option<u32> {
    if text.is_empty() {
        return Some(0);
    }
    let percent = text.strip_prefix(" keeping ")?.strip_suffix('%')?;
    percent.parse().ok().filter(|percent| (1..=100).contains(percent))
}

fn network(verb: &str, text: &str) -> Option<Fault> {
    let (link, text) = match verb {
        "isolate" => (Link::Isolate, text.to_owned()),
        "mute" => (Link::Mute, text.to_owned()),
        "deafen" => (Link::Deafen, text.to_owned()),
        "delay" => {
            let (whom, rest) = text.split_once(" by ")?;
            let (by_ms, rest) = rest.split_once(' ')?;
            (Link::Delay { by_ms: parse_ms(by_ms)? }, format!("{whom} {rest}"))
        }
        _ => return None,
    };
    lasting(&text).map(|(whom, when, ms)| Fault::Network { link, whom, when, ms })
}

/// `WHOM for Nms at WHEN`.
fn lasting(text: &str) -> Option<(Whom, When, u64)> {
    let (whom, rest) = text.split_once(" for ")?;
    let (ms, when) = rest.split_once(" at ")?;
    Some((parse_whom(whom)?, parse_when(when)?, parse_ms(ms)?))
}

pub(super) fn parse_whom(text: &str) -> Option<Whom> {
    let (name, rank) = match text.split_once('#') {
        Some((name, rank)) => (name, Some(rank.parse().ok()?)),
        None => (text, None),
    };
    let kind = WhomKind::ALL.into_iter().find(|kind| kind.name() == name)?;
    let ranked = !matches!(kind, WhomKind::Leader | WhomKind::All);
    (ranked == rank.is_some()).then(|| Whom { kind, rank: rank.unwrap_or(0) })
}

pub(super) fn parse_when(text: &str) -> Option<When> {
    let (name, rest) = text.split_once(' ')?;
    match name {
        "applied" => Some(When::Applied { ahead: rest.strip_prefix('+')?.parse().ok()? }),
        "time" => Some(When::Time { ms: parse_ms(rest)? }),
        _ => parse_at(text).map(|At { window, hit }| When::Window { window, hit }),
    }
}

/// `WINDOW hit N`.
pub(super) fn parse_at(text: &str) -> Option<At> {
    let (name, hit) = text.split_once(" hit ")?;
    let hit = hit.parse().ok().filter(|hit| *hit > 0)?;
    Some(At { window: subject::find_window(name)?, hit })
}

pub(super) fn parse_ms(text: &str) -> Option<u64> {
    text.strip_suffix("ms")?.parse().ok()
}

/// Checks that the faults of one step go together.
pub(super) fn check_together(faults: &[Fault]) -> Result<(), String> {
    let count = |wanted: fn(&Fault) -> bool| faults.iter().filter(|fault| wanted(fault)).count();
    if faults.len() > limits::PLAN_FAULTS_MAX {
        return Err(format!("at most {} faults in one cycle", limits::PLAN_FAULTS_MAX));
    }
    if count(|fault| matches!(fault, Fault::Upgrade(_))) > 0 && faults.len() > 1 {
        return Err("an upgrade alone in its cycle".to_owned());
    }
    if count(|fault| matches!(fault, Fault::Restore(_))) > 0 && faults.len() > 1 {
        return Err("a restore alone in its cycle".to_owned());
    }
    if count(Fault::joins) > 0 && faults.len() > 1 {
        return Err(
            "a kill in a member's first life alone in its cycle, because the membership changes on the way to it"
                .to_owned(),
        );
    }
    if count(|fault| matches!(fault, Fault::Kill { .. })) > 1 {
        return Err(
            "at most one kill in a cycle: `minority`, `majority` and `all` take several members at once".to_owned()
        );
    }
    let after_a_kill = matches!(faults, [.., Fault::Kill { .. }, Fault::Strangers { .. }]);
    if count(|fault| matches!(fault, Fault::Strangers { .. })) > usize::from(after_a_kill) {
        return Err("`strangers for Nms` once, at the end, behind the kill that makes room for them".to_owned());
    }
    let ailments = || {
        faults.iter().filter_map(|fault| match fault {
            Fault::Disk(fault) => Some(fault.ailment.kind()),
            _ => None,
        })
    };
    if ailments().count() > ailments().collect::<BTreeSet<_>>().len() {
        return Err(
            "at most one of each fault of disks in a cycle: `minority`, `majority` and `all` take several disks"
                .to_owned(),
        );
    }
    let loses =
        |fault: &Fault| matches!(fault, Fault::Disk(DiskFault { ailment: Ailment::FailSync { losing: true }, .. }));
    if faults.iter().any(loses) && faults.iter().any(|fault| matches!(fault, Fault::Kill { .. })) {
        return Err("`fail-sync … losing` without a kill or a cut beside it: the power of its members fails anyway, before they start \
                    again"
            .to_owned());
    }
    corrupt::check_together(faults)?;
    faults.iter().try_for_each(check)
}

/// Checks that the place of a fault can be reached, and that its numbers are within reason.
fn check(fault: &Fault) -> Result<(), String> {
    match fault {
        Fault::Kill { whom, when, again, power: _ } => {
            check_when(*when)?;
            if let When::Window { window, .. } = when {
                check_victims(whom, window)?;
            }
            check_again(*when, again)
        }
        Fault::Pause { when, ms, .. } => {
            check_lasting(*when)?;
            check_ms("for", *ms, limits::PLAN_PAUSE_MS_MAX)
        }
        Fault::Network { link, when, ms, .. } => {
            check_lasting(*when)?;
            if let Link::Delay { by_ms } = link {
                check_ms("by", *by_ms, limits::PLAN_DELAY_MS_MAX)?;
            }
            check_ms("for", *ms, limits::PLAN_NETWORK_MS_MAX)
        }
        Fault::Strangers { ms } => check_ms("for", *ms, limits::PLAN_STRANGERS_MS_MAX),
        Fault::Corrupt(corruption) => corrupt::check(*corruption),
        Fault::Disk(fault) => disk::check(fault),
        Fault::Upgrade(_) | Fault::Restore(_) => Ok(()),
    }
}

fn check_when(when: When) -> Result<(), String> {
    match when {
        When::Window { window, .. } if window.reach == Reach::Migration => {
            Err(format!("a window that a member passes: {} is passed by an upgrade by migrate alone", window.name))
        }
        When::Window { window, .. } if window.is_of_an_operation() => {
            Err(format!("a window that a member passes: {} is passed by a restore alone", window.name))
        }
        When::Applied { ahead } if ahead > limits::PLAN_AHEAD_MAX => {
            Err(format!("`applied +N` with N of at most {}", limits::PLAN_AHEAD_MAX))
        }
        When::Time { ms } if ms > limits::PLAN_TIME_MS_MAX => {
            Err(format!("`time Nms` with N of at most {}", limits::PLAN_TIME_MS_MAX))
        }
        _ => Ok(()),
    }
}

fn check_victims(whom: &Whom, window: &subject::Window) -> Result<(), String> {
    if whom.kind.reaches(window.reach) {
        return Ok(());
    }
    let fit: Vec<_> = WhomKind::ALL.iter().filter(|kind| kind.reaches(window.reach)).map(|kind| kind.name()).collect();
    Err(format!("{} as the one that passes {}", fit.join(" or "), window.name))
}

/// A member that is started again passes what recovery passes; and an installation, if one was
/// interrupted.
fn check_again(when: When, again: &[At]) -> Result<(), String> {
    if again.len() > limits::PLAN_AGAIN_MAX {
        return Err(format!("at most {} times `then at`", limits::PLAN_AGAIN_MAX));
    }
    // A member that was just added is sent a snapshot as well.
    let installing =
        matches!(when, When::Window { window, .. } if matches!(window.reach, Reach::SnapshotReceiver | Reach::Join));
    let passed = |at: &&At| match at.window.reach {
        Reach::Recovery | Reach::Start => true,
        Reach::SnapshotReceiver | Reach::Reinstall => installing,
        _ => false,
    };
    match again.iter().find(|at| !passed(at)) {
        None => Ok(()),
        Some(at) if matches!(at.window.reach, Reach::SnapshotReceiver | Reach::Reinstall) => Err(format!(
            "`then at {at}` only after a kill in another window of an installation, or of a first life: nothing else leaves a snapshot to be received, or an installation to be finished"
        )),
        Some(_) => {
            Err("a window of recovery.* or, after one of an installation, of snapshot.* behind `then at`".to_owned())
        }
    }
}

/// A fault that ends by itself needs no preparation: it begins at a window that load alone leads
/// to, or without one.
pub(super) fn check_lasting(when: When) -> Result<(), String> {
    check_when(when)?;
    match when {
        When::Window { window, .. } if window.reach != Reach::Load => {
            let fit: Vec<_> = subject::all_windows().filter(|window| window.reach == Reach::Load).collect();
            let names: Vec<_> = fit.iter().map(|window| window.name).collect();
            Err(format!("one of {} as the window in which a pause or a disturbance begins", names.join(", ")))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_ms(word: &str, ms: u64, max: u64) -> Result<(), String> {
    if (1..=max).contains(&ms) { Ok(()) } else { Err(format!("`{word} Nms` with N of 1 to {max}")) }
}
