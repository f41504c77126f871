//! Snapshots between any two engines: the streams' lengths, the state that arrives, every malformed
//! legacy stream, and an install that is killed at each of its steps.
#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

mod common;

use common::{Member, Orders, Victim, at, model, open_dead_on, rows, small};
use node_backend::engine::Engine;
use node_backend::engine::EngineKind::{self, Redb, Rocksdb};
use node_backend::layout::DataDir;
use node_backend::rocksdb::RocksBackend;
use node_backend::snapshot::receive;
use node_base::backend::{Batch, Bucket, Declared, SnapshotError};
use node_base::failpoint::Window;
use node_base::watermarks::Watermarks;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;

/// A stream, and what its carrier says of it.
struct Stream {
    bytes: Vec<u8>,
    declared: Declared,
}

impl Stream {
    /// Of a member of `kind` that has applied entries 0 to 499.
    fn at_499(kind: EngineKind) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let mut member = Member::on(kind, tmp.path(), small());
        member.apply(500);
        let mut snapshot = member.backend.snapshot().unwrap();
        assert_eq!(snapshot.log_id, at(499));
        assert!(member.marks.now().persisted >= Some(at(499)), "N ≥ M before the first byte goes out");
        let mut bytes = Vec::new();
        snapshot.reader.read_to_end(&mut bytes).unwrap();
        let declared = snapshot.declared;
        drop(snapshot);
        assert_eq!(std::fs::read_dir(DataDir::new(tmp.path()).outgoing()).unwrap().count(), 0, "the image is deleted");
        Self { bytes, declared }
    }

    /// For a child to find.
    fn store(&self, dir: &Path) {
        std::fs::write(dir.join("stream"), &self.bytes).unwrap();
    }

    fn load(dir: &Path) -> Self {
        let bytes = std::fs::read(dir.join("stream")).unwrap();
        let legacy = bytes.starts_with(b"redb");
        let sha256 = legacy.then(|| Sha256::digest(&bytes).into());
        Self { declared: Declared { wire_size: bytes.len() as u64, sha256 }, bytes }
    }
}

/// The child installs the stream beside its directory onto what it has.
#[test]
fn child() {
    let Some((root, role)) = common::orders_of_child() else { return };
    let member = Member::on(common::engine_of(&role), &root, small());
    let stream = Stream::load(root.parent().unwrap());
    receive(&*member.backend, at(499), stream.declared, &mut &stream.bytes[..]).unwrap();
    member.backend.install_snapshot(at(499), &mut || Ok(())).unwrap();
}

#[test]
fn what_is_declared_is_what_goes_out() {
    for (kind, modulo) in [(Redb, 0), (Rocksdb, 32)] {
        let Stream { bytes, declared } = Stream::at_499(kind);
        assert_eq!(declared.wire_size, bytes.len() as u64, "{kind}");
        assert_eq!(declared.wire_size % 512, modulo, "{kind}");
        let digest = (kind == Redb).then(|| Sha256::digest(&bytes).into());
        assert_eq!(declared.sha256, digest, "{kind}: a legacy stream has its digest beside it, another one inside");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever the rows: the declared length is the stream's, and ends in a block's 32 bytes where
    /// there is a trailer.
    #[test]
    fn any_content_is_as_long_as_declared(
        rows in prop::collection::btree_map(prop::collection::vec(any::<u8>(), 1..60), prop::collection::vec(any::<u8>(), 0..3_000), 0..60),
    ) {
        for (kind, modulo) in [(Redb, 0), (Rocksdb, 32)] {
            let tmp = tempfile::tempdir().unwrap();
            let member = Member::on(kind, tmp.path(), small());
            let mut batch = Batch::default();
            for (key, value) in &rows {
                batch.put(Bucket::Key, key.clone(), value.clone());
            }
            member.backend.commit(batch, at(0)).unwrap();
            let mut snapshot = member.backend.snapshot().unwrap();
            let sent = std::io::copy(&mut snapshot.reader, &mut std::io::sink()).unwrap();
            prop_assert_eq!((sent, sent % 512), (snapshot.declared.wire_size, modulo));
        }
    }
}

#[test]
fn any_engine_takes_any_engines_snapshot_and_writing_goes_on() {
    for from in EngineKind::ALL {
        let Stream { bytes, declared } = Stream::at_499(from);
        for to in EngineKind::ALL {
            let tmp = tempfile::tempdir().unwrap();
            let dir = DataDir::new(tmp.path());
            let mut member = Member::on(to, tmp.path(), small());
            member.apply(300);
            let early = member.backend.read();
            receive(&*member.backend, at(499), declared, &mut &bytes[..]).unwrap();
            assert!(!dir.foreign().exists(), "{from} to {to}: the foreign image is deleted");
            assert!(common::rows_of(&*early) == model(Some(299)), "{from} to {to}: receiving touches nothing");
            drop(early);
            let mut purged_at = None;
            let purge = &mut || {
                purged_at = member.marks.now().persisted;
                Ok(())
            };
            member.backend.install_snapshot(at(499), purge).unwrap();
            assert_eq!(purged_at, Some(at(499)), "{from} to {to}: the log is purged only once N = M");
            assert!(rows(&*member.backend) == model(Some(499)), "{from} to {to}");
            assert!(!dir.incoming().exists(), "{from} to {to}");
            member.next = 500;
            member.apply(100);
            member.backend.flush().unwrap();
            assert_eq!(member.marks.now().persisted, Some(at(599)), "{from} to {to}");
            drop(member);
            assert_eq!(open_dead_on(to, tmp.path()), (Some(599), Some(599)), "{from} to {to}");
        }
    }
}

/// The table of `snapshot`'s contract, row by row, each by a kill of a real process in that window;
/// a stream of the own engine, and one that has to be converted.
#[test]
fn a_kill_at_any_step_of_an_install_leaves_the_old_state_or_the_new_one() {
    let (old, new) = (Some(299), Some(499));
    let steps = |kind| match kind {
        Redb => vec![
            (Window::SnapshotUnpack, (old, old)),
            (Window::SnapshotUnpacked, (old, old)),
            (Window::SnapshotExchanged, (new, new)),
            (Window::SnapshotPersist, (new, new)),
            (Window::SnapshotPersisted, (new, new)),
            (Window::SnapshotDelete, (new, new)),
        ],
        Rocksdb => vec![
            (Window::SnapshotUnpack, (old, old)),
            (Window::SnapshotUnpacked, (old, old)),
            (Window::SnapshotExchanged, (old, new)),
            (Window::SnapshotPersist, (old, new)),
            (Window::IndexTmpWritten, (old, new)),
            (Window::SnapshotPersisted, (new, new)),
            (Window::SnapshotDelete, (new, new)),
        ],
    };
    for (from, to) in [(Redb, Redb), (Rocksdb, Redb), (Redb, Rocksdb), (Rocksdb, Rocksdb)] {
        let stream = Stream::at_499(from);
        for (window, expected) in steps(to) {
            let tmp = tempfile::tempdir().unwrap();
            stream.store(tmp.path());
            let root = tmp.path().join("member");
            let mut member = Member::on(to, &root, small());
            member.apply(300);
            member.backend.flush().unwrap();
            drop(member);
            let mut victim = Victim::spawn(&root, &Orders { role: to.name(), arm: Some((window, 1)), bug: None });
            assert!(victim.wait_for(window.name()), "{from} to {to}: {window:?} was not reached");
            victim.kill();
            assert_eq!(open_dead_on(to, &root), expected, "{from} to {to}: {window:?}");
            let left: Vec<_> =
                std::fs::read_dir(DataDir::new(&root).snap()).unwrap().map(|it| it.unwrap().file_name()).collect();
            let only = |name: &std::ffi::OsStr| {
                ["db", "last-flushed-index", "last-flushed-index.tmp", "outgoing"].iter().any(|it| name == *it)
            };
            assert!(left.iter().all(|name| only(name)), "{from} to {to}: {window:?}: {left:?}");
            if expected == (old, new) {
                the_same_snapshot_is_accepted_again(&root, &stream);
            }
        }
    }
}

/// RocksDB, after a kill between exchange and N: nothing up to E is proven by this life, so raft
/// may send M again.
fn the_same_snapshot_is_accepted_again(root: &Path, stream: &Stream) {
    let backend = RocksBackend::open(DataDir::new(root), small()).unwrap();
    let opened = backend.opened();
    let marks = Watermarks::at_start(opened.persisted.map(at), opened.engine, None);
    backend.attach(marks.into()).unwrap();
    receive(&backend, at(499), stream.declared, &mut &stream.bytes[..]).unwrap();
    backend.install_snapshot(at(499), &mut || Ok(())).unwrap();
    drop(backend);
    assert_eq!(open_dead_on(Rocksdb, root), (Some(499), Some(499)));
}

/// Takes in `bytes` on a member of `to`; a refusal must leave the state as it was, and nothing
/// beside it.
fn refusal(to: EngineKind, bytes: &[u8], declared: Declared) -> String {
    let tmp = tempfile::tempdir().unwrap();
    let dir = DataDir::new(tmp.path());
    let mut member = Member::on(to, tmp.path(), small());
    member.apply(20);
    let refused = receive(&*member.backend, at(499), declared, &mut &bytes[..]).unwrap_err();
    assert!(matches!(refused, SnapshotError::Refused(_)), "{refused}");
    assert!(
        !dir.incoming().exists() && !dir.foreign().exists(),
        "a refused stream must leave nothing behind: {refused}"
    );
    assert!(rows(&*member.backend) == model(Some(19)));
    member.apply(1);
    refused.to_string()
}

#[test]
fn malformed_legacy_streams_are_refused_by_name() {
    let Stream { bytes, declared } = Stream::at_499(Redb);
    let whole = declared.wire_size;
    let of = |wire_size, bytes: &[u8]| Declared { wire_size, sha256: Some(Sha256::digest(bytes).into()) };
    let edited = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] ^= value;
        bytes
    };
    let strange = |table: &str| {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("strange");
        let db = redb::Database::create(&path).unwrap();
        let txn = db.begin_write().unwrap();
        txn.open_table(redb::TableDefinition::<u64, u64>::new(table)).unwrap();
        txn.commit().unwrap();
        db.close().unwrap();
        std::fs::read(path).unwrap()
    };
    let (sqlite, flipped, zeroed, stranger, typed) = (
        [b"SQLite format 3\0".as_slice(), &[0; 512]].concat(),
        edited(4096, 1),
        [&bytes[..4096], &vec![0; bytes.len() - 4096]].concat(),
        strange("of-somebody-else"),
        strange("meta"),
    );
    let cut = &bytes[..bytes.len() - 4096];
    let longer = [&bytes[..], &[0]].concat();
    let table: Vec<(&str, &[u8], Declared)> = vec![
        ("nothing at all", b"", of(0, b"")),
        ("fewer bytes than a magic", &bytes[..9], of(9, &bytes[..9])),
        ("neither magic", &sqlite, of(528, b"")),
        ("no digest from the carrier", &bytes, Declared { wire_size: whole, sha256: None }),
        ("short", cut, declared),
        ("long", &longer, declared),
        ("declared too short", &bytes, of(whole - 4096, cut)),
        ("declared too long", &bytes, of(whole + 512, &bytes)),
        ("declared a few bytes", &bytes, of(16, &bytes[..16])),
        ("a flipped byte", &flipped, declared),
        ("another digest", &bytes, of(whole, b"")),
        ("a right digest of a torn file", cut, of(whole - 4096, cut)),
        ("a right digest of zeroes behind the header", &zeroed, of(whole, &zeroed)),
        ("another program's redb file", &stranger, of(stranger.len() as u64, &stranger)),
        ("a redb file with other types", &typed, of(typed.len() as u64, &typed)),
    ];
    for to in EngineKind::ALL {
        for (what, bytes, declared) in &table {
            println!("{to:8} {what:44} {}", refusal(to, bytes, *declared));
        }
    }
    let elsewhere = Stream::at_499(Rocksdb);
    let twice = Declared { sha256: Some([0; 32]), ..elsewhere.declared };
    assert!(refusal(Redb, &elsewhere.bytes, twice).contains("needs no other SHA-256"));
}

/// Every byte counts: a bit flipped anywhere is refused, by the digest if by nothing else.
#[test]
fn a_flipped_bit_anywhere_in_a_legacy_stream_is_refused() {
    let Stream { bytes, declared } = Stream::at_499(Redb);
    for at in (0..bytes.len()).step_by(bytes.len() / 40) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        refusal(Redb, &bytes, declared);
    }
}
