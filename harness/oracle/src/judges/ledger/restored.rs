//! A snapshot becomes a new cluster: what the ledger keeps, and what it forgets.

use super::{Baseline, Books, CompactionBooks, MemberBooks, OperationBooks};
use crate::judges::asked::Newest;
use crate::judges::durability::Writes;
use crate::judges::linearizability::{Basis, Linearizability};
use crate::judges::streams::Streams;
use crate::model::Model;
use ninelives_evidence::member::{Engine, Slot};
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings;
use std::collections::BTreeMap;

impl Books {
    /// Goes on with another cluster, which begins with the saved snapshot, of `revision`, at raft
    /// index `index`. Cuts the history there: everything above is expected to be gone, even if it
    /// was acknowledged, and must not come back.
    pub fn restored(
        &mut self,
        cycle: u32,
        (revision, index): (u64, Option<u64>),
        founders: &[(Slot, u64, Engine)],
    ) -> Vec<Finding> {
        let (source, saved) = self.fences.saving.take().unwrap_or_default();
        let findings = self.judge_saved(cycle, source, revision, &saved);
        // Answers about the part that stays are judged before the rest is forgotten.
        let alarms = self.operations.linearizability.check(Basis::History(revision.min(self.model.revision())));
        self.file(None, alarms);
        self.model.forget_above(revision);
        self.operations.restored(&self.model, revision);
        self.members.restored(founders);
        self.leases.book.restored(&saved.leases);
        // Leases of the snapshot begin their whole time anew.
        self.leases.clock.forget();
        self.streams = Streams::behind(self.streams.slots().collect::<Vec<_>>().into_iter(), revision);
        self.replay = self.replay.restored(revision, index);
        self.compactions = CompactionBooks { acked: saved.compact_min, sent: self.compactions.sent.min(revision) };
        self.fences.baseline = Baseline::default();
        self.fences.agreed = index.map(|index| (index, revision));
        findings
    }

    /// Judges a snapshot of `revision`: it must hold everything that was acknowledged before
    /// `source` was asked for it, and nothing that no watch delivered.
    fn judge_saved(&self, cycle: u32, source: u64, revision: u64, saved: &Baseline) -> Vec<Finding> {
        let (member, acknowledged, told) = (source, saved.revision_min, self.model.revision());
        let what = if revision < acknowledged {
            findings::Writes::SnapshotTooOld { member, revision, acknowledged }
        } else if revision > told {
            findings::Writes::SnapshotTooNew { member, revision, told }
        } else {
            return Vec::new();
        };
        vec![Finding::new(what).in_cycle(cycle).at_member(source)]
    }
}

impl OperationBooks {
    /// The cluster begins anew with a snapshot of `revision`, at which `model` ends.
    fn restored(&mut self, model: &Model, revision: u64) {
        (self.pending, self.stale) = (BTreeMap::new(), BTreeMap::new());
        self.acked = Newest::at(revision);
        self.writes = Writes::default();
        self.claims.forget_deferred();
        // Its members know of no session.
        self.sessions.all_died();
        self.linearizability = Linearizability::restored(model);
        self.exactly_once.restored(model);
    }
}

impl MemberBooks {
    /// A cluster of `founders` takes the place of this one; nothing is known about it yet.
    fn restored(&mut self, founders: &[(Slot, u64, Engine)]) {
        let mut tenants = std::mem::take(&mut self.tenants);
        tenants.extend(founders.iter().map(|(slot, member, _)| (*slot, *member)));
        *self = Self { tenants, server: self.server, ..Self::default() };
        // It may be founded by one of them, and grow.
        self.leaders.change();
    }
}
