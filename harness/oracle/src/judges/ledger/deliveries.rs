//! What the watch streams deliver: the history of the keys grows from it.

use super::{Books, OperationBooks};
use crate::judges::Alarms;
use crate::judges::lease_clock::Leased;
use crate::judges::streams::{Delivered, Delivery};
use ninelives_evidence::logged::Digest;
use ninelives_evidence::member::Slot;
use ninelives_evidence::operation::OpId;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Watches;
use ninelives_evidence::{Change, digest_of_changes};

impl Books {
    pub fn delivered(&mut self, slot: Slot, revision: u64, changes: &[Change]) {
        let mut alarms = Alarms::new();
        let delivered = Delivered { slot, revision, digest: digest_of_changes(changes), changes: Some(changes) };
        let delivery = self.streams.deliver(&delivered, &mut alarms);
        self.file_at(slot, alarms);
        if delivery == Delivery::Old {
            return;
        }
        let mut alarms = Alarms::new();
        let Books { model, replay, operations, leases, position, .. } = &mut *self;
        let OperationBooks { writes, claims, exactly_once, .. } = operations;
        for (lease, how) in leases.clock.delivered(position.at_us, model, changes, &mut alarms) {
            if how == Leased::Ended {
                leases.book.expired(lease);
            }
        }
        replay.deliver(revision, changes, &mut alarms);
        let again = exactly_once.deliver(revision, changes, &mut alarms);
        writes.deliver(model, revision, changes, again, &mut alarms);
        alarms.extend(model.apply(revision, changes).into_iter().map(Finding::new));
        writes.settle_revoked(model);
        claims.settle(model, &mut alarms);
        if let Some(author) = author_of(changes) {
            self.operations.linearizability.found(author, revision);
        }
        self.settle_stale(&mut alarms);
        self.file(None, alarms);
    }

    pub fn delivered_again(&mut self, slot: Slot, revision: u64, digest: Digest<8>) {
        let mut alarms = Alarms::new();
        let delivery = self.streams.deliver(&Delivered { slot, revision, digest, changes: None }, &mut alarms);
        if delivery == Delivery::New {
            alarms.push(Finding::new(Watches::DeliveredAgainUnknown { slot, revision }));
        }
        self.file_at(slot, alarms);
    }

    pub fn stream_skipped(&mut self, slot: Slot, compacted: u64) {
        let last = self.streams.last(slot);
        if compacted > last + 1 && compacted > self.compactions.sent {
            let what = Watches::ToldOfNoCompaction { slot, compacted, asked: self.compactions.sent };
            self.file_at(slot, vec![Finding::new(what)]);
        }
        self.streams.skip_to(slot, compacted);
    }
}

/// The operation whose value is in a revision.
fn author_of(changes: &[Change]) -> Option<OpId> {
    changes.iter().find_map(|change| match change {
        Change::Put { value, .. } => OpId::of_value(value),
        Change::Delete { .. } => None,
    })
}
