//! Any bytes as requests: what a service lets in is applied by every member alike, now and in a
//! later life; what it refuses changes nothing; and bytes that are committed without having been
//! let in change nothing either.
//!
//! The input is a log: a byte that says which request follows (or that raw bytes of a command do),
//! two for its length, and its bytes.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use node_base::LogId;
use node_base::backend::{Backend, consistent_index};
use node_base::memory::MemoryBackend;
use node_proto::command::command::Request;
use node_proto::etcdserverpb::{RangeRequest, TxnRequest};
use node_under_test::state::mvcc::check;
use node_under_test::state::{Applying, Store, command};
use prost::Message;
use std::sync::Arc;

/// One part of the input, decoded.
enum Item {
    Command(Bytes),
    Range(RangeRequest),
    Txn(TxnRequest),
    /// Bytes that are not a request: the transport refuses them.
    Nothing,
}

fn item(kind: u8, bytes: &[u8]) -> Item {
    fn encoded<M: Message + Default>(bytes: &[u8], request: fn(M) -> Request) -> Item {
        let encode = |message| Item::Command(command::encode(request(message)));
        M::decode(bytes).map_or(Item::Nothing, encode)
    }
    match kind % 9 {
        0 => encoded(bytes, Request::Put),
        1 => encoded(bytes, Request::DeleteRange),
        2 => encoded(bytes, Request::Compact),
        3 => encoded(bytes, Request::LeaseGrant),
        4 => encoded(bytes, Request::LeaseRevoke),
        5 => RangeRequest::decode(bytes).map_or(Item::Nothing, Item::Range),
        6 | 7 => TxnRequest::decode(bytes).map_or(Item::Nothing, Item::Txn),
        // As a peer proposes it, or a log of another version holds it.
        _ => Item::Command(Bytes::copy_from_slice(bytes)),
    }
}

struct Member {
    backend: Arc<MemoryBackend>,
    store: Store,
    applying: Applying,
}

impl Member {
    fn new(applying: Applying) -> Self {
        let backend = Arc::new(MemoryBackend::default());
        let store = Store::open(backend.clone()).expect("an empty store opens");
        Self { backend, store, applying }
    }

    fn apply(&self, index: u64, command: &Bytes) {
        let at = LogId::new(1, index);
        let outcome = self.store.apply(at, command, self.applying).expect("a member that applies whatever comes");
        assert_eq!(consistent_index(&*self.backend.read()).expect("a view of memory"), Some(at));
        if self.applying.awaited {
            command::decode_outcome(outcome).expect("an answer that can be read");
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let leader = Member::new(Applying { awaited: true, replaying: false });
    let mut follower = Member::new(Applying { awaited: false, replaying: true });
    let (mut rest, mut index) = (input, 0);
    while let [kind, high, low, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (bytes, more) = more.split_at(length);
        rest = more;
        let proposed = match item(*kind, bytes) {
            Item::Command(command) => Some(command),
            Item::Range(range) => {
                // A rejection is an answer; nothing may panic.
                let _ = check::range(&range).map(|()| leader.store.range(&range));
                None
            }
            Item::Txn(txn) => match check::txn(&txn) {
                Ok(()) if check::is_read_only(&txn) => {
                    let _ = leader.store.read_txn(&txn);
                    None
                }
                Ok(()) => {
                    let command = command::encode(Request::Txn(txn));
                    assert!(command::vet(&command).is_ok(), "let in, and cannot be applied");
                    Some(command)
                }
                Err(_) => None,
            },
            Item::Nothing => None,
        };
        let Some(command) = proposed else { continue };
        index += 1;
        let before = leader.store.state_hash().expect("a state of memory");
        leader.apply(index, &command);
        follower.apply(index, &command);
        let after = leader.store.state_hash().expect("a state of memory");
        if command::admit(&command).is_err() {
            assert_eq!(after, before, "refused, and yet something changed");
        }
        assert_eq!(follower.store.state_hash().expect("a state of memory"), after);
        if index % 4 == 0 {
            follower.store = Store::open(follower.backend.clone()).expect("a store that reads what it wrote");
        }
    }
});
