//! The bytes of both forms, frozen in `tests/golden/`: what this build makes is what earlier ones
//! made, and what earlier ones made stays readable. `NINELIVES_BLESS=1` writes them anew, which is
//! a change of the format.
#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

mod common;

use common::{Member, at, model, rows, small};
use node_backend::engine::EngineKind;
use node_backend::snapshot::receive;
use node_backend::snapshot::write::{Outgoing, SnapshotStream};
use node_base::backend::Declared;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::PathBuf;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn blessing() -> bool {
    std::env::var_os("NINELIVES_BLESS").is_some()
}

#[test]
fn a_checkpoint_streams_as_the_golden_bytes() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("checkpoint");
    std::fs::create_dir(&dir).unwrap();
    for (name, content) in [("CURRENT", b"MANIFEST-000004\n".to_vec()), ("000007.sst", vec![0x5a; 700])] {
        std::fs::write(dir.join(name), content).unwrap();
    }
    let mut stream = SnapshotStream::new(Outgoing::own(dir)).unwrap();
    let (wire_size, mut bytes) = (stream.wire_size(), Vec::new());
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!((bytes.len() as u64, wire_size % 512), (wire_size, 32));
    let path = golden("checkpoint.snapshot");
    if blessing() {
        std::fs::write(&path, &bytes).unwrap();
    }
    assert!(bytes == std::fs::read(path).unwrap(), "the stream of the same files is another one than it was");
}

/// redb's own bytes are redb's to choose; that a file of an earlier build is a stream that this one
/// takes is ours.
#[test]
fn a_legacy_stream_of_an_earlier_build_is_taken_by_both_engines() {
    let path = golden("legacy.snapshot");
    if blessing() {
        let tmp = tempfile::tempdir().unwrap();
        let mut member = Member::on(EngineKind::Redb, tmp.path(), small());
        member.apply(20);
        let mut bytes = Vec::new();
        member.backend.snapshot().unwrap().reader.read_to_end(&mut bytes).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes[..9], *b"redb\x1a\x0a\xa9\x0d\x0a");
    let declared = Declared { wire_size: bytes.len() as u64, sha256: Some(Sha256::digest(&bytes).into()) };
    for kind in EngineKind::ALL {
        let tmp = tempfile::tempdir().unwrap();
        let member = Member::on(kind, tmp.path(), small());
        receive(&*member.backend, at(19), declared, &mut &bytes[..]).unwrap();
        member.backend.install_snapshot(at(19), &mut || Ok(())).unwrap();
        assert!(rows(&*member.backend) == model(Some(19)), "{kind}");
    }
}
