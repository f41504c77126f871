//! What several of the unit tests stand on.

use crate::api::{OutgoingSnapshot, Payload, SnapshotMeta, StateMachine, ToApply};
use bytes::Bytes;
use node_base::LogId;
use node_base::backend::Declared;
use node_base::watermarks::Watermarks;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};

/// A state machine that keeps the membership, and nothing else. It has no image, and takes none.
pub struct Machine {
    membership: Mutex<Option<Bytes>>,
    pub marks: Arc<Watermarks>,
}

impl Default for Machine {
    fn default() -> Self {
        Self { membership: Mutex::default(), marks: Arc::new(Watermarks::at_start(None, None, None)) }
    }
}

impl StateMachine for Machine {
    fn replay_after(&self) -> Option<LogId> {
        None
    }

    fn membership(&self) -> io::Result<Option<Bytes>> {
        Ok(self.membership.lock().unwrap().clone())
    }

    fn greatest_member_id(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn vet(&self, _: &Bytes) -> Result<(), String> {
        Ok(())
    }

    fn apply(&self, entries: Vec<ToApply>, answer: &mut dyn FnMut(Bytes) -> io::Result<()>) -> io::Result<()> {
        entries.into_iter().try_for_each(|ToApply { entry, .. }| {
            if let Payload::Membership(membership) = entry.payload {
                *self.membership.lock().unwrap() = Some(membership);
            }
            self.marks.applied(entry.log_id);
            answer(Bytes::new())
        })
    }

    fn settle(&self) -> io::Result<()> {
        Ok(())
    }

    fn open_snapshot(&self) -> io::Result<OutgoingSnapshot> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn snapshot_room(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn receive_snapshot(&self, _: &SnapshotMeta, _: Declared, _: &mut dyn Read) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn install_snapshot(&self, _: &SnapshotMeta, _: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
