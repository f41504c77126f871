//! Replicas against each other, and against the model, at a fence.

use super::parts::{Anchor, Part, Says, join};

findings! {
    /// All replicas have one state at a fence, and it is the model's.
    Replicas:

    StateHash ReplicasDisagree { at: Anchor, part: Part, says: Vec<Says> }
        "at {at} the replicas disagree on the {part}: {says}", says = join(says, "; ");

    /// The member applied that index, and found another entry there.
    StateHash FenceNotFound { member: u64, index: u64 }
        "expected n{member} to find the fence at raft index {index}, where it was committed; it \
         applied that index, and found another entry: the logs have diverged";

    Model NegativeRevision { index: u64, revision: i64 }
        "the fence of raft index {index} has revision {revision}";

    LostWrite RevisionTooLow { at: Anchor, acknowledged: u64 }
        "{at} was {done} after revision {acknowledged} was acknowledged or delivered",
        done = at.done();

    LostWrite CompactionLost { at: Anchor, acknowledged: u64 }
        "{at} was {done} after a compaction at {acknowledged} was acknowledged", done = at.done();

    Phantom CompactionUnasked { at: Anchor, asked: u64 }
        "{at}: the highest compaction that was asked for is {asked}";

    HarnessError HistoryTooShort { at: Anchor, delivered: u64 }
        "{at} cannot be judged: the watches have delivered {delivered} only";

    /// `why` is the model's own account.
    Model ModelCannotJudge { at: Anchor, why: String }
        "{at}: {why}";

    Model KvSectionDiffers { at: Anchor, found: String, rows: u64, expected: String, rows_expected: u64 }
        "{at}: all replicas agree on kv section {found} ({rows} rows), and the history makes it \
         {expected} ({rows_expected} rows)";

    Model KvRowsMiscounted { at: Anchor, claimed: u64, counted: u64 }
        "{at}: the kv section is right, but {claimed} rows are claimed of {counted}";

    Model LeaseSectionNotItsList { at: Anchor }
        "{at}: the lease section is not the digest of the lease list beside it";

    Model AuthSectionNotEmpty { at: Anchor, found: String }
        "{at}: the auth section is {found}, and must be that of no users and no roles";

    Model KeysDiffer {
        at: Anchor, member: u64, found: String, keys: u64, expected: String, keys_expected: u64,
    }
        "at {at}: n{member} shows keys {found} ({keys} keys), and the history makes them \
         {expected} ({keys_expected} keys)";

    Model HashKvDiffers { at: Anchor, member: u64, found: String, expected: String }
        "at {at}: n{member} answers HashKV {found}, and the rows of the history make it {expected}";
}
