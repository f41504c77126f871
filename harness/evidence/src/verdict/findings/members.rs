//! Members: whether they live, come back, and serve within their bounds.

use super::parts::{Healed, LongStream, Pretence, ids};
use crate::ended::Ended;
use crate::member::{Engine, Slot};
use crate::stretched::Stretched;

/// The last line that a member wrote, in brackets.
fn quoted(remark: Option<&String>) -> String {
    remark.map(|line| format!(" (it said {line:?})")).unwrap_or_default()
}

/// The end of a member in words, with a note if it ended because it found its own invariant broken.
fn end(ended: Ended) -> String {
    let own = if ended == Ended::Exited(super::parts::EXIT_INVARIANT) { ", its own broken invariant" } else { "" };
    format!("{ended}{own}")
}

findings! {
    /// No member dies of its own doing, each comes back after a crash, and a healed cluster serves
    /// within its bounds.
    Members:

    /// `remark`: the last line that it wrote.
    NodeDied Died { member: u64, ended: Ended, remark: Option<String> }
        "n{member}: expected it to serve until it is killed, found that it ended with \
         {ended}{remark}; its last words are in nodes/n{member}.log",
        ended = end(*ended), remark = quoted(remark.as_ref());

    /// A failed sync is never tried again and believed. `file`: within the data directory.
    FailedSyncBelieved WentOnAfterFailedSync { member: u64, file: String, bound: Stretched }
        "n{member}: expected it to end within {bound} of a sync of {file} that failed, found it \
         alive: what it acknowledges from then on may not be durable; see nodes/n{member}.log";

    /// `damage`: what was done to its files while it was dead; `words`: its last line.
    NodeDied RefusedUnclearly { member: u64, damage: String, ended: Ended, words: String }
        "n{member}: expected it to serve rightly after a {damage}, or to end with exit code 1, 65 or \
         74 and a last line that names the file and says \"under a new id\", found that it ended \
         with {ended} and said {words:?}; see nodes/n{member}.log",
        ended = end(*ended);

    RefusedAfterOwnCrash RefusedToStart { member: u64, ended: Ended, remark: Option<String> }
        "n{member}: expected it to start, found that it ended with {ended}{remark}; its last words \
         are in nodes/n{member}.log",
        ended = end(*ended), remark = quoted(remark.as_ref());

    /// In its first life: wrong flags, a missing library.
    HarnessError NeverStarted { member: u64, ended: Ended, remark: Option<String> }
        "n{member}: expected it to start, found that it ended with {ended}{remark}; its last words \
         are in nodes/n{member}.log",
        ended = end(*ended), remark = quoted(remark.as_ref());

    HarnessError EndedFromOutside { member: u64, ended: Ended }
        "n{member} was ended from outside ({ended}): look for the OOM killer (dmesg) or a \
         stranger, then run again";

    RefusedAfterOwnCrash MigrationFailed { member: u64, to: Engine, ended: Ended }
        "n{member}: expected `migrate --to {to}` to finish, after nothing but our own kills, found \
         that it ended with {ended}; its last words are in nodes/n{member}.log";

    RefusedAfterOwnCrash RestorationFailed { member: u64, into: Engine, ended: Ended }
        "n{member}: expected `snapshot restore` of a snapshot that was saved whole to make a \
         {into} directory, found that it ended with {ended}; its last words are in \
         nodes/n{member}.log";

    Model IdUsedBefore { member: u64 }
        "a learner was added, and was given the id n{member}, which was used before: an id is a \
         life of one raft log";

    /// `remark`: the last line that it wrote.
    NodeDied StrangerDied { slot: Slot, ended: Ended, remark: Option<String> }
        "the member of another cluster in {slot}: expected it to serve or to wait until it is \
         killed, and to obey none of ours, found that it ended with {ended}{remark}; its last words \
         are in nodes/s{number}.log",
        ended = end(*ended), remark = quoted(remark.as_ref()), number = slot.0;

    /// In its first life: wrong flags, a missing library.
    HarnessError StrangerNeverStarted { slot: Slot, ended: Ended, remark: Option<String> }
        "the member of another cluster in {slot}: expected it to start, found that it ended with \
         {ended}{remark}; its last words are in nodes/s{number}.log",
        ended = end(*ended), remark = quoted(remark.as_ref()), number = slot.0;

    HarnessError StrangerEndedFromOutside { slot: Slot, ended: Ended }
        "the member of another cluster in {slot} was ended from outside ({ended}): look for the OOM \
         killer (dmesg), then run again";

    /// `awaited`: what it was to do, in the harness's words.
    Liveness StrangerLate { slot: Slot, awaited: String, bound: Stretched }
        "the member of another cluster in {slot}: expected it to {awaited} within {bound}, and it \
         did not; see nodes/s{number}.log",
        number = slot.0;

    /// `call`: the path of the call.
    Model HostilePeerAnswered { member: u64, call: String, whom: Pretence }
        "n{member}: expected it to refuse {call} of {whom}, found an answer";

    /// `leader`: whom it follows; 0: it follows no leader.
    Model UnlikeFounderAdmitted { member: u64, ours: u64, cluster: u64, leader: u64 }
        "n{member} was started from another state than the other founders of cluster {ours:016x}: \
         expected another cluster, without a leader, found cluster {cluster:016x}, and {leader}",
        leader = if *leader == 0 { "no leader".to_owned() } else { format!("n{leader} as its leader") };

    Model StrangerMoved { slot: Slot, founded: u64, found: u64 }
        "the member of another cluster in {slot}: expected it to stay in cluster {founded:016x}, \
         found it in {found:016x}";

    /// `keys`: the first few.
    Phantom StrangerHolds { slot: Slot, keys: Vec<String> }
        "the member of another cluster in {slot}: expected no key but its own, found {keys}",
        keys = keys.join(", ");

    /// `awaited`: what it was to do, in the harness's words.
    Liveness Late { member: u64, awaited: String, bound: Stretched }
        "n{member}: expected it to {awaited} within {bound}, and it did not; see \
         nodes/n{member}.log";

    SnapshotTransfer SnapshotsRefused { member: u64, awaited: String, bound: Stretched, refused: u64, last: String }
        "n{member}: expected it to {awaited} within {bound}, found that it refused all \
         {refused} snapshots that it was sent, the last one because: {last}; see \
         nodes/n{member}.log, and the sender's";

    /// `wrote_ms`: when the majority first acknowledged a write; `None`: not in the `lasted_ms`
    /// that the cut lasted.
    Liveness MajorityLate {
        majority: Vec<u64>, bound: Stretched, fault: String, wrote_ms: Option<u64>, lasted_ms: u64,
    }
        "expected {majority}, a majority that hears each other, to acknowledge a write within \
         {bound} of `{fault}`, found {found}: look for a leader that stays one",
        majority = ids(majority).join(", "),
        found = wrote_ms.map_or(format!("none in {lasted_ms} ms"), |ms| format!("the first after {ms} ms"));

    /// `most`: the member that took most.
    Liveness CostRepeated {
        member: u64, requests: u32, cpu_ms: u64, most: u64, most_cpu_ms: u64, percent_max: u64,
    }
        "n{member} took {cpu_ms} ms of processor time for {requests} transactions that took \
         {most_cpu_ms} ms at n{most}: expected at most {percent_max} % of that, because only one \
         member has to evaluate what they read";

    Liveness AnswersLate { stream: LongStream, answers: u64, median_us: u64, bound: Stretched }
        "expected half of the answers to {stream} within {bound}, found a median of {median_ms} \
         ms, of {answers} answers: look for messages that wait for one another",
        median_ms = median_us / 1_000;

    Liveness HealedLate { task: Healed, bound: Stretched, took_ms: u64 }
        "expected the healed cluster to {task} within {bound}, it took {took_ms} ms";

    Liveness ReadUnanswered { member: u64, bound: Stretched, took_ms: u64, why: String }
        "expected the healed n{member} to serve a linearizable read within {bound}, found \
         after {took_ms} ms: {why}";

    Liveness LastReadLate { member: u64, bound: Stretched }
        "expected n{member} to answer a read of all keys within {bound}, and it did not";
}
