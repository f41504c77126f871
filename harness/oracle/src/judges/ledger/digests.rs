//! Digests of everything that the ledger holds: a fold over the history has to come to the same.

use super::{
    Books, CompactionBooks, FenceBooks, FindingBooks, HistoryPosition, LeaseBooks, MemberBooks, OperationBooks,
};
use ninelives_evidence::hex::hex;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt;

impl Books {
    /// By field, a digest of what it holds. Every field of evidence is here, and a fold over the
    /// history has to come to the same.
    pub(super) fn digests(&self) -> BTreeMap<String, String> {
        // Exhaustive: a new field does not compile before it is here.
        let Self {
            position: HistoryPosition { at_us, lines, by, cycle, ended, resumptions },
            model,
            replay,
            streams,
            operations:
                OperationBooks { pending, acked, writes, claims, sessions, linearizability, exactly_once, stale, refusals },
            compactions: CompactionBooks { acked: compact_acked, sent: compact_sent },
            leases: LeaseBooks { book: leases, clock: lease_clock },
            members: MemberBooks { tenants, server, watermarks, leaders, votes, dead, damaged },
            fences: FenceBooks { baseline, saving, agreed },
            findings: FindingBooks { queue, known, lost_write, watch_broken },
            tally,
            // This is the place to which it is written, and not its content.
            recorder: _,
        } = self;
        // The caller decides when to drain it; the findings follow from the evidence.
        let raised = (&queue.of_cycle, queue.unlisted);
        let fields: [(&str, &dyn fmt::Debug); 37] = [
            ("model", model),
            ("leases", leases),
            ("lease_clock", lease_clock),
            ("at_us", at_us),
            ("lines", lines),
            ("writes", writes),
            ("replay", replay),
            ("streams", streams),
            ("tenants", tenants),
            ("server", server),
            ("claims", claims),
            ("sessions", sessions),
            ("linearizability", linearizability),
            ("exactly_once", exactly_once),
            ("watermarks", watermarks),
            ("leaders", leaders),
            ("stale", stale),
            ("pending", pending),
            ("acked", acked),
            ("compact_acked", compact_acked),
            ("compact_sent", compact_sent),
            ("tally", tally),
            ("refusals", refusals),
            ("cycle", cycle),
            ("by", by),
            ("raised", &raised),
            ("known", known),
            ("baseline", baseline),
            ("saving", saving),
            ("agreed", agreed),
            ("votes", votes),
            ("dead", dead),
            ("damaged", damaged),
            ("ended", ended),
            ("resumptions", resumptions),
            ("lost_write", lost_write),
            ("watch_broken", watch_broken),
        ];
        fields.into_iter().map(|(name, field)| (name.to_owned(), digest_of(field))).collect()
    }
}

/// The first bytes of the SHA-256 of `field` as its type shows it, in hex.
fn digest_of(field: &dyn fmt::Debug) -> String {
    struct Hashed(Sha256);
    impl fmt::Write for Hashed {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.update(text.as_bytes());
            Ok(())
        }
    }
    let mut hashed = Hashed(Sha256::new());
    // Hashing never fails; a type that cannot be shown has a digest of its own.
    if fmt::write(&mut hashed, format_args!("{field:?}")).is_err() {
        return "unprintable".to_owned();
    }
    hex(&hashed.0.finalize()[..8])
}
