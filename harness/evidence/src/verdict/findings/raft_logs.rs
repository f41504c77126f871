//! Raft logs: their order, the votes in them, and what their committed entries replay to.

use super::parts::{Differs, Told, ids, join};

findings! {
    /// A raft log is in order, its vote never goes back, and what it says was committed is what the
    /// store did.
    RaftLogs:

    RaftLog LogOutOfOrder { error: String }
        "after our kill the raft log that it wrote is not in order: {error}";

    HarnessError LogUndecoded { error: String }
        "the inspector reads this raft log and our own decoder does not: {error}";

    VoteWentBack VoteGone { term: u64 }
        "the vote of term {term} is gone from the dead log";

    VoteWentBack VoteOfOlderTerm { was: u64, is: u64 }
        "the dead log has a vote of term {is}, it had one of term {was} before";

    VoteWentBack VoteMoved { term: u64, from: u64, to: u64 }
        "in term {term} the vote moved from n{from} to n{to}";

    VoteWentBack TwoLeaders { term: u64, leader: u64, said_by: u64, other: u64, other_said_by: u64 }
        "term {term} has two leaders: n{leader}, said n{said_by}, and n{other}, says \
         n{other_said_by}";

    VoteWentBack TermWithoutMajority { term: u64, leader: u64, without: Vec<u64> }
        "n{leader} led term {term}, and no majority can have elected it: the dead logs of {without} \
         have no vote for it, in that term or a later one",
        without = ids(without).join(", ");

    StateHash LogsDisagree { index: u64, first: Told, second: Told, does: String }
        "the raft logs of n{a} and n{b} disagree on a committed entry: at index {index} n{a} has \
         one of term {a_term} ({a_digest}), n{b} one of term {b_term} ({b_digest}): {does}",
        a = first.member, a_term = first.term, a_digest = first.digest,
        b = second.member, b_term = second.term, b_digest = second.digest;

    Model LogMakesAnother { revision: u64, index: u64, term: u64, makes: String, delivered: String }
        "by the raft log, revision {revision} is made by raft index {index} (term {term}) and \
         holds {makes}; the watches delivered {delivered}";

    Model LogLeadsElsewhere { index: u64, differs: Vec<Differs> }
        "at the fence of raft index {index} the raft log leads to {differs}",
        differs = join(differs, "; ");
}
