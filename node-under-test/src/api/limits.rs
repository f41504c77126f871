//! Limits of what clients may ask for at once. Beyond them they wait or are refused, in etcd's
//! words, and what the member needs for itself stays free.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// Bytes of commands that were proposed here and are not answered yet. The reserve on the disk
/// counts on a bound.
const PROPOSED_BYTES_MAX: usize = 64 << 20;

/// Images for clients at a time. Each holds a copy of the state on the disk, or tables that
/// compactions have replaced.
const IMAGES_MAX: usize = 4;

/// The limits of one member.
pub struct Limits {
    proposed: Arc<Semaphore>,
    images: Arc<Semaphore>,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(PROPOSED_BYTES_MAX, IMAGES_MAX)
    }
}

impl Limits {
    fn new(proposed_bytes: usize, images: usize) -> Self {
        Self { proposed: Arc::new(Semaphore::new(proposed_bytes)), images: Arc::new(Semaphore::new(images)) }
    }

    /// Room for one command until it is answered.
    ///
    /// # Errors
    /// etcd's "too many requests", and nothing was proposed.
    pub fn propose(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Status> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = self.proposed.clone().try_acquire_many_owned(bytes);
        room.map_err(|_| Status::resource_exhausted("etcdserver: too many requests"))
    }

    /// A place for one image, until it is deleted.
    ///
    /// # Errors
    /// All are taken.
    pub fn image(&self) -> Result<OwnedSemaphorePermit, Status> {
        let place = self.images.clone().try_acquire_owned();
        place.map_err(|_| Status::resource_exhausted("etcdserver: too many snapshots are being sent; try again later"))
    }
}

/// etcd's answer under its NOSPACE alarm.
pub fn no_space() -> Status {
    Status::resource_exhausted("etcdserver: mvcc: database space exceeded")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn proposals_are_bounded_in_bytes_and_images_in_number() {
        let limits = Limits::new(10, 1);
        let held = limits.propose(7).unwrap();
        let refused = limits.propose(4).unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, "etcdserver: too many requests"));
        drop(held);
        drop(limits.propose(10).unwrap());
        let held = limits.image().unwrap();
        assert_eq!(limits.image().unwrap_err().code(), Code::ResourceExhausted);
        drop(held);
        drop(limits.image().unwrap());
    }
}
