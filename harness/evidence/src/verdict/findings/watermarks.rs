//! Watermarks: what a living member says of itself, within one life.

use super::parts::{Watermark, last_of};

findings! {
    /// Within one life watermarks stand in their order and never go back. Indexes are counts of
    /// entries, 0 for none.
    Watermarks:

    IndexAheadOfEngine PersistedAboveFlushed { persisted: u64, flushed: u64 }
        "it says that persisted is at {persisted}, above flushed at {flushed}",
        persisted = last_of(*persisted), flushed = last_of(*flushed);

    Watermarks MarksOutOfOrder { lower: Watermark, low: u64, upper: Watermark, high: u64 }
        "it says that {lower} is at {low}, above {upper} at {high}",
        low = last_of(*low), high = last_of(*high);

    PurgedAboveN PurgedAboveLaterN { purged: u64, persisted: u64 }
        "its log was purged through {purged}, and N is at {persisted} after that",
        purged = last_of(*purged), persisted = last_of(*persisted);

    VoteWentBack TermWentBack { was: u64, is: u64 }
        "within one life the term went back from {was} to {is}";

    Watermarks MarkWentBack { mark: Watermark, was: u64, is: u64 }
        "within one life {mark} went back from {was} to {is} (entries or revision)";
}
