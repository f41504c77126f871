//! Lacks: what a run without other findings lacks to be a pass.

use super::parts::{Shown, Unmet, ids, join};
use crate::stretched::{Factor, Stretched};

findings! {
    /// Enough happened for a pass to mean something.
    Lack:

    NotProven NoCycle {}
        "no cycle was carried out";

    NotProven TooFewVerified { percent_min: u32, verified: u64, cycles: u64 }
        "expected at least {percent_min} % of the cycles to be verified at a fence, found \
         {verified} of {cycles}: known findings ended the others before it, or left replicas that \
         disagree, and behind those nothing new can be seen";

    NotProven TooFewLanded { percent_min: u32, landed: u64, planned: u64 }
        "expected at least {percent_min} % of the planned faults to land, found {landed} of \
         {planned}; the skips say why";

    /// Only for servers whose data is unknown.
    NotProven TooFewToCatchUp { percent_min: u32, bit: u64, judged: u64 }
        "expected at least {percent_min} % of the kills that landed to leave their victims \
         something to catch up with, found {bit} of {judged}; raise the load";

    NotProven TooFewBit { percent_min: u32, bit: u64, judged: u64 }
        "expected at least {percent_min} % of the kills that landed on a rocksdb member to take \
         something out of a memtable that a replay or a snapshot brought back, found {bit} of \
         {judged}; raise the load, or the memtable's size";

    NotProven TooFewWrites { writes_min: u64, cycles: u64, writes: u64 }
        "expected at least {writes_min} acknowledged writes in {cycles} cycles, found {writes}: \
         the load was not reached";

    NotProven TooSlow { per_second_min: u64, per_second: u64, writes: u64, load_ms: u64 }
        "expected at least {per_second_min} acknowledged writes per second of load \
         (`floors.writes_per_second_min`), found {per_second}: {writes} in {load_ms} ms; more \
         clients raise it, or a quieter machine";

    NotProven LeasesUnjudged { renewals: u64, expiries: u64 }
        "expected leases of seconds to be renewed and to end, found {renewals} renewals that were \
         acknowledged and {expiries} expiries";

    /// `reasons`: of the refusals, with their numbers.
    NotProven MostlyRefused { percent_min: u32, step: String, done: u64, answered: u64, refused: u64, reasons: String }
        "expected at least {percent_min} % of the answered \"{step}\" to be carried out \
         (`floors.carried_out_percent_min`), found {done} of {answered}, and {refused} refused: \
         {reasons}";

    NotProven NeverCarriedOut { step: String, unknown: u64, refused: u64, reasons: Option<String> }
        "expected \"{step}\" to be carried out at times, found never: {unknown} without an answer, \
         {refused} refused{reasons}",
        reasons = reasons.as_ref().map(|reasons| format!(": {reasons}")).unwrap_or_default();

    NotProven WindowNeverReached { window: String, planned: u32 }
        "expected window {window}, planned {planned} times, to be reached at least once, found \
         never; the skips say why";

    NotProven NeverAsked { operation: String, planned: u32 }
        "expected disks that fail {operation}, planned {planned} times, to be asked for it at least \
         once, found never: nothing was refused";

    NotProven TooFewDamaged { percent_min: u32, damaged: u64, planned: u64 }
        "expected at least {percent_min} % of the planned damages to change a file, found {damaged} \
         of {planned}";

    NotProven QuotasUnmet { unmet: Vec<Unmet> }
        "expected every quota of window × role to be met, found {count} unmet: {unmet}",
        count = unmet.len(), unmet = join(unmet, "; ");

    /// `percent_max`: elections per hundred cycles on an idle machine; `factor_percent`: the
    /// machine's mean factor over the cycles that count.
    NotProven Restless { elections_max: u64, cycles: u64, percent_max: u32, factor_percent: u32, elections: u64 }
        "expected at most {elections_max} elections in the {cycles} cycles whose faults can cause \
         none ({percent_max} % × {factor}, the machine's factor), found {elections}: the machine is \
         too busy for the members' election timeout, or something in them holds up heartbeats",
        factor = Factor(*factor_percent);

    NotProven CrowdStayedAway { expected: u64, came: u64 }
        "the crowd stayed away: expected {expected} connections, {came} came about";

    /// `beside`: strangers that came while a member of ours lived; `heard`: those of them that
    /// refused a message; `refused`: messages that living members refused meanwhile.
    NotProven StrangersUnheard { stays: u64, beside: u64, heard: u64, refused: u64 }
        "expected members of another cluster to come after {stays} kills, and most to be heard, \
         found {beside} beside living members; {heard} of them refused a message, and living \
         members refused {refused}; a longer `strangers.stay_ms` gives them time to meet";

    /// `heard`: members that refused at least `refused_min` acts of hostile peers.
    NotProven HostilePeersUnheard { members: u64, heard: u64, refused_min: u64, refused: u64 }
        "expected each of {members} members to refuse at least {refused_min} acts of hostile \
         peers, found {heard} that did, and {refused} refusals in all; more cycles give them time";

    NotProven Interrupted { done: u64, planned: u64 }
        "interrupted after {done} of {planned} cycles: what it did not reach is not proven";

    NotProven HistoryUnended { cluster: u32 }
        "the history of cluster {cluster} has no end: the harness was killed, or lines are missing";

    /// `skipped`: the members that skipped the last fence.
    NotProven FenceNeverApplied { tries: u32, waited_ms: u64, skipped: Vec<u64>, keep_entries: u64 }
        "expected a fence that every member applies, found none in {tries} tries over {waited_ms} \
         ms: {skipped} skipped the last one, because its recovery or a snapshot covered it; \
         `cluster.keep_entries` is {keep_entries}: with more of them members catch up from the log",
        skipped = ids(skipped).join(", ");

    NotProven LooksNeverComparable { looks: u32, waited: Stretched, shown: Vec<Shown> }
        "expected all members to show one revision under one compact revision, found no such look \
         in {looks} over {waited} (in the last one {shown}): compactions come faster than \
         looks; raise `load.compact_every_ops`",
        shown = join(shown, ", ");

    NotProven NoFaultFilesystem { error: String }
        "the scenario asks for the fault filesystem (`fault_filesystem = true`, `[power]` or `[disk]`), \
         which takes FUSE and root, and is not available here: {error}";

    NotProven NoCrowd { error: String }
        "{error}";
}
