//! A snapshot in a file, as `Maintenance.Snapshot` sends it to a client: RocksDB's form as it is,
//! or a legacy file with its SHA-256 behind it, as etcd does.

use super::format::{MAGIC, TRAILER_BYTES};
use super::read::RawSnapshot;
use super::receive::open_proven;
use crate::engine::EngineKind;
use node_base::backend::{Declared, ReadView, Snapshot, SnapshotError};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// `snapshot` as a client is to save it: the bytes, and how many they are.
pub fn for_client(snapshot: Snapshot) -> (u64, Box<dyn Read + Send>) {
    match snapshot.declared.sha256 {
        None => (snapshot.declared.wire_size, snapshot.reader),
        Some(digest) => {
            let reader = snapshot.reader.chain(io::Cursor::new(digest));
            (snapshot.declared.wire_size + TRAILER_BYTES, Box::new(reader))
        }
    }
}

/// A saved snapshot, proven and unpacked.
pub struct Saved {
    pub engine: EngineKind,
    pub view: Box<dyn ReadView>,
    /// Length of the file.
    pub wire_size: u64,
}

/// Unpacks the saved snapshot `file` to `path`, where no file is yet, and opens it. The caller
/// removes what is there in the end.
///
/// # Errors
/// [`SnapshotError::Refused`] for anything wrong with it.
pub fn unpack(file: &Path, path: &Path) -> Result<Saved, SnapshotError> {
    let failed = || SnapshotError::io(format!("reading {}", file.display()));
    let mut source = File::open(file).map_err(failed())?;
    let wire_size = source.metadata().map_err(failed())?.len();
    let declared = declared(&mut source, wire_size).map_err(failed())?;
    // A legacy stream ends before its digest.
    let mut source = source.take(declared.wire_size);
    let raw = RawSnapshot::new(&mut source, declared)?;
    let engine = raw.engine();
    raw.unpack(path)?.keep();
    Ok(Saved { engine, view: open_proven(engine, path)?, wire_size })
}

/// Size and digest as the file itself states them.
fn declared(source: &mut File, wire_size: u64) -> io::Result<Declared> {
    let mut magic = [0; MAGIC.len()];
    let with_header = source.read_exact(&mut magic).is_ok() && magic == MAGIC;
    let declared = match wire_size.checked_sub(TRAILER_BYTES).filter(|_| !with_header) {
        None => Declared { wire_size, sha256: None },
        Some(body) => {
            let mut digest = [0; TRAILER_BYTES as usize];
            source.seek(SeekFrom::Start(body))?;
            source.read_exact(&mut digest)?;
            Declared { wire_size: body, sha256: Some(digest) }
        }
    };
    source.rewind()?;
    Ok(declared)
}
