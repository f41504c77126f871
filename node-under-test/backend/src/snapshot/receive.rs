//! From a stream to a synced image of this member's own engine in the staging area.
//!
//! The order: unpack while hashing, into `db.incoming`, or into `db.foreign` if the stream is the
//! other engine's; prove length, digest and form; sync; open it, every checksum that can be
//! verified verified, and read its consistent index, which must be the announced one. A foreign
//! image is then copied, row by row, into one of our own in `db.incoming`, which must hash alike
//! and is synced as well. Nothing here touches `db`; what is refused leaves nothing behind.

use super::install;
use super::read::{RawSnapshot, Unpacked};
use crate::engine::{Engine, EngineKind};
use crate::layout::DataDir;
use node_base::LogId;
use node_base::backend::{Declared, ReadView, SnapshotError, consistent_index};
use node_base::chain::chain;
use node_base::durable;
use node_base::failpoint::{Window, pass};
use node_base::sabotage::{Bug, planted};
use std::io::{self, Read};
use std::path::Path;

/// Stages a snapshot for the member of `engine`, whose running database is not involved. One at a
/// time.
///
/// # Errors
/// [`SnapshotError::Refused`] for anything wrong with the stream or the image in it; nothing is
/// left behind then.
pub fn receive(
    engine: &dyn Engine,
    expected: LogId,
    declared: Declared,
    source: &mut dyn Read,
) -> Result<(), SnapshotError> {
    let (dir, own) = (engine.dir(), engine.kind());
    for leftover in [dir.incoming(), dir.foreign()] {
        install::remove(&leftover).map_err(SnapshotError::io(format!("emptying {}", leftover.display())))?;
    }
    let raw = RawSnapshot::new(source, declared)?;
    let from = raw.engine();
    let path = if from == own { dir.incoming() } else { dir.foreign() };
    let unpacked = raw.unpack(&path)?;
    pass(Window::SnapshotProven);
    sync(dir, &path)?;
    let image = open_proven(from, &path)?;
    check_index(&*image, expected)?;
    let ready = if from == own {
        drop(image);
        unpacked
    } else {
        let converted = convert(own, &dir.incoming(), &*image)?;
        sync(dir, &dir.incoming())?;
        drop(image);
        // The foreign image is removed with this.
        drop(unpacked);
        converted
    };
    pass(Window::SnapshotUnpacked);
    ready.keep();
    Ok(())
}

/// Bytes that stay free for the raft log and the engine while an image is received.
const RESERVE_BYTES: u64 = 64 << 20;

/// Bytes of an image that the file system of `dir` has room for, beside what is there now.
///
/// # Errors
/// It cannot be asked.
pub fn room(dir: &DataDir) -> io::Result<u64> {
    let free = rustix::fs::statvfs(dir.snap())?;
    Ok(free.f_bavail.saturating_mul(free.f_frsize).saturating_sub(RESERVE_BYTES))
}

/// Everything about `path` is durable when this returns.
fn sync(dir: &DataDir, path: &Path) -> Result<(), SnapshotError> {
    if planted(Bug::CheckpointNotSynced) {
        return Ok(());
    }
    let synced = durable::sync_tree(path).and_then(|()| durable::sync_dir(&dir.snap()));
    synced.map_err(SnapshotError::io(format!("syncing {}", path.display())))
}

/// Opens an image whose bytes are proven but whose contents are not.
///
/// # Errors
/// [`SnapshotError::Refused`]: it does not open, or is not ours.
pub(crate) fn open_proven(engine: EngineKind, path: &Path) -> Result<Box<dyn ReadView>, SnapshotError> {
    let opened = engine.open_foreign_image(path);
    opened.map_err(|error| SnapshotError::Refused(format!("its image does not open: {}", chain(&error))))
}

fn check_index(image: &dyn ReadView, expected: LogId) -> Result<(), SnapshotError> {
    let found = consistent_index(image)
        .map_err(|error| SnapshotError::Refused(format!("its image cannot be read: {}", chain(&error))))?;
    let off_by_one = |found: LogId| planted(Bug::SnapshotIndexOffByOne) && found.index + 1 == expected.index;
    if found == Some(expected) || found.is_some_and(off_by_one) {
        return Ok(());
    }
    Err(SnapshotError::Refused(format!("its image must be at {expected}, as announced, found {found:?}")))
}

/// Copies `image` into one of `own` engine at `path`, and proves the copy.
fn convert(own: EngineKind, path: &Path, image: &dyn ReadView) -> Result<Unpacked, SnapshotError> {
    let converted = Unpacked::own(path);
    own.write_image(path, image, &mut |_| ())?;
    if !own.is_copy(path, image)? {
        return Err(SnapshotError::Refused("its copy in this member's engine differs from it".into()));
    }
    Ok(converted)
}
