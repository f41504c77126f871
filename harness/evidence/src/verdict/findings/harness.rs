//! The harness and its machine: nothing here says anything about the system.

use super::What;

findings! {
    /// The harness did its part, and the machine had room.
    Harness:

    /// The machine ran short of something, which explains `outcome`. `short`: by the kernel's
    /// account.
    MachineExhausted MachineRanShort { short: String, outcome: Box<What> }
        "the machine ran short ({short}), which says nothing about the system; what came of it: \
         {outcome}";

    MachineExhausted ReportDiskFull { short: String }
        "no space left on the report's disk ({short}): what happened from there on says nothing \
         about the system, and the run was ended; make room, or name another place with --report";

    /// `why`: the inspector's words, and what the machine ran short of.
    MachineExhausted NoRoomToInspect { member: u64, why: String }
        "n{member}'s dead directory could not be read: {why}";

    MachineExhausted NoRoomForHistory { error: String }
        "history.jsonl could not be written ({error}): what happened from there on is not \
         recorded, and proves nothing";

    HarnessError HistoryUnwritable { error: String }
        "history.jsonl could not be written ({error}): what happened from there on is not \
         recorded, and proves nothing";

    /// `error`: with its causes.
    HarnessError HarnessFailed { error: String }
        "{error}";

    /// The lane that they are about had ended, and had not drained them.
    HarnessError FindingsLeft { left: u64 }
        "{left} findings were still with the ledger when its lane had ended: the lane lost them";

    HarnessError LanePanicked { error: String }
        "a lane ended by a panic: {error}";

    HarnessError LastReadFailed { member: u64, error: String }
        "the last read of n{member} failed: {error}";

    HarnessError MissedFenceJudged {}
        "a missed fence was given to the judge; it needs another fence that every member applies";

    HarnessError UnansweredFenceJudged {}
        "a fence without answers was given to the judge";
}
