//! The sums of a cluster's part of a run. The live run and `verify` take them from the ledger in
//! the same way, and add them up in the same way.

use ninelives_evidence::record::books::BooksRecord;
use ninelives_evidence::record::operations::StepRecord;
use ninelives_evidence::record::suppressed::SuppressedRecord;
use ninelives_evidence::record::{LeasesJudged, Replayed, ResumedRecord, operations, suppressed};

/// Running totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Writes (leases and compactions included) that were answered.
    pub acked_writes: u64,
    /// Writes whose answer never came.
    pub unknown_writes: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Answers about the state that were compared with the model.
    pub reads_checked: u64,
    /// Answers that could not be compared, because their revision was compacted before the history
    /// reached them.
    pub reads_unchecked: u64,
    /// Operations that are not settled yet.
    pub open: u64,
    /// Revisions that the history holds.
    pub revisions: u64,
    /// Fences that were not compared with the model, because of something known.
    pub fences_uncompared: u64,
    /// Cycles at whose fence replicas held different keys, as is known.
    pub cycles_apart: u64,
    /// Findings that were counted and not listed: there were too many of their class in one cycle.
    pub findings_unlisted: u64,
    /// Members that a cut left without a quorum for long enough to judge what they say then, and
    /// for less.
    pub leaderless: u64,
    pub leaderless_unjudged: u64,
    /// Comparisons of members' processor time for which dear transactions took too little of it.
    pub costs_unjudged: u64,
    /// Promises about leases of seconds.
    pub leases: LeasesJudged,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        // Exhaustive: a number that is not added up does not compile.
        let Self {
            acked_writes,
            unknown_writes,
            reads,
            reads_checked,
            reads_unchecked,
            open,
            revisions,
            fences_uncompared,
            cycles_apart,
            findings_unlisted,
            leaderless,
            leaderless_unjudged,
            costs_unjudged,
            leases,
        } = other;
        self.acked_writes += acked_writes;
        self.unknown_writes += unknown_writes;
        self.reads += reads;
        self.reads_checked += reads_checked;
        self.reads_unchecked += reads_unchecked;
        self.open += open;
        self.revisions += revisions;
        self.fences_uncompared += fences_uncompared;
        self.cycles_apart += cycles_apart;
        self.findings_unlisted += findings_unlisted;
        self.leaderless += leaderless;
        self.leaderless_unjudged += leaderless_unjudged;
        self.costs_unjudged += costs_unjudged;
        self.leases.add(leases);
    }
}

/// Everything that a ledger has counted. Those of all clusters add up to the run's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    pub tally: Tally,
    /// The outcomes of the operations, by the kind of step that asked for them.
    pub operations: Vec<StepRecord>,
    pub log_replayed: Replayed,
    /// The suppressed findings, one record for each signature.
    pub known: Vec<SuppressedRecord>,
    pub resumed: Vec<ResumedRecord>,
    /// One for each cluster.
    pub books: Vec<BooksRecord>,
}

impl Sums {
    pub fn add(&mut self, other: Self) {
        let Self { tally, operations, log_replayed, known, resumed, books } = other;
        self.tally.add(tally);
        operations::add(&mut self.operations, operations);
        self.log_replayed.add(log_replayed);
        suppressed::add(&mut self.known, known);
        self.resumed.extend(resumed);
        self.books.extend(books);
    }
}
