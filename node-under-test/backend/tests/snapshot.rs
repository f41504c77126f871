//! RocksDB's snapshots: when one is given and taken, and the form of their stream, every malformed
//! one by name. Transfers between members, whatever their engines, are in `transfer.rs`.
#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

mod common;

use common::{Member, at, model, rows, small};
use node_backend::engine::Engine;
use node_backend::layout::DataDir;
use node_backend::rocksdb::RocksBackend;
use node_backend::snapshot::format::{self, file_header, padding_after};
use node_backend::snapshot::read::RawSnapshot;
use node_backend::snapshot::receive;
use node_backend::snapshot::write::{Outgoing, SnapshotStream};
use node_base::backend::{Backend, Declared, SnapshotError};
use node_base::watermarks::Watermarks;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::io::{self, Read};
use std::sync::Arc;

/// A carrier's declaration of a stream with header and trailer.
fn declared(bytes: &[u8]) -> Declared {
    Declared { wire_size: bytes.len() as u64, sha256: None }
}

/// The stream of a member that has applied entries 0 to 499.
fn stream_at_499() -> Vec<u8> {
    let tmp = tempfile::tempdir().unwrap();
    let mut member = Member::start(tmp.path(), small());
    member.apply(500);
    let mut bytes = Vec::new();
    member.backend.snapshot().unwrap().reader.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn an_install_waits_for_readers_and_the_next_view_sees_the_new_state() {
    let bytes = stream_at_499();
    let tmp = tempfile::tempdir().unwrap();
    let mut member = Member::start(tmp.path(), small());
    member.apply(10);
    receive(&*member.backend, at(499), declared(&bytes), &mut &bytes[..]).unwrap();
    let view = member.backend.read();
    let last = |view: &dyn node_base::backend::ReadView| view.get(node_base::backend::Bucket::Meta, b"last").unwrap();
    std::thread::scope(|scope| {
        let install = scope.spawn(|| member.backend.install_snapshot(at(499), &mut || Ok(())));
        // Whether or not the install is waiting by now: this view's database is open, and
        // unchanged.
        assert_eq!(last(&*view), Some(8u64.to_be_bytes().to_vec()));
        drop(view);
        install.join().unwrap().unwrap();
    });
    assert_eq!(last(&*member.backend.read()), Some(498u64.to_be_bytes().to_vec()));
}

#[test]
fn what_this_member_has_already_is_refused() {
    let bytes = stream_at_499();
    let tmp = tempfile::tempdir().unwrap();
    let mut member = Member::start(tmp.path(), small());
    member.apply(500);
    receive(&*member.backend, at(499), declared(&bytes), &mut &bytes[..]).unwrap();
    let refusal = member.backend.install_snapshot(at(499), &mut || panic!("the log must not be purged"));
    assert!(matches!(refusal, Err(SnapshotError::Refused(_))));
    member.apply(1);
    assert!(rows(&*member.backend) == model(Some(500)));
    let other = receive(&*member.backend, at(498), declared(&bytes), &mut &bytes[..]).unwrap_err();
    assert!(other.to_string().contains("as announced"), "{other}");
    assert!(!DataDir::new(tmp.path()).incoming().exists());
}

/// A restarted leader may be asked for a snapshot before it has replayed a single entry: that is
/// "not yet", never a storage failure; and when N = E there is nothing to wait for.
#[test]
fn after_a_restart_an_image_waits_for_the_replay_and_no_longer() {
    let tmp = tempfile::tempdir().unwrap();
    let mut member = Member::start(tmp.path(), small());
    member.apply(20);
    member.backend.flush().unwrap();
    drop(member);
    let reopened = RocksBackend::open(DataDir::new(tmp.path()), small()).unwrap();
    let opened = reopened.opened();
    assert_eq!((opened.persisted, opened.engine), (Some(19), Some(at(19))));
    reopened.attach(Arc::new(Watermarks::at_start(Some(at(19)), Some(at(19)), None))).unwrap();
    let early = reopened.snapshot().err().expect("nothing is proven in this life");
    assert!(matches!(early, SnapshotError::NotYet(_)), "{early}");
    assert_eq!(io::Error::from(early).kind(), io::ErrorKind::WouldBlock);
    reopened.verified(at(19)).unwrap();
    assert_eq!(reopened.snapshot().unwrap().log_id, at(19));
}

// ---- the format alone, without an engine ----

/// A small checkpoint's stream.
fn small_stream(files: &[(&str, usize)]) -> Vec<u8> {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("checkpoint");
    std::fs::create_dir(&dir).unwrap();
    for (name, len) in files {
        std::fs::write(dir.join(name), vec![name.len() as u8; *len]).unwrap();
    }
    let mut stream = SnapshotStream::new(Outgoing::own(dir.clone())).unwrap();
    let (wire_size, mut bytes) = (stream.wire_size(), Vec::new());
    stream.read_to_end(&mut bytes).unwrap();
    drop(stream);
    assert!(!dir.exists());
    assert_eq!((bytes.len() as u64, wire_size % 512), (wire_size, 32));
    bytes
}

/// Unpacks into a fresh directory; a refusal must leave nothing there.
fn unpack(bytes: &[u8], declared: u64) -> Result<Vec<(String, usize)>, String> {
    let tmp = tempfile::tempdir().unwrap();
    let staging = tmp.path().join("db.incoming");
    let source: &mut dyn Read = &mut &bytes[..];
    let result =
        RawSnapshot::new(source, Declared { wire_size: declared, sha256: None }).and_then(|raw| raw.unpack(&staging));
    match result {
        Ok(unpacked) => {
            let list = |entry: io::Result<std::fs::DirEntry>| {
                let entry = entry.unwrap();
                (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len() as usize)
            };
            let mut files: Vec<_> = std::fs::read_dir(unpacked.keep()).unwrap().map(list).collect();
            files.sort();
            Ok(files)
        }
        Err(error) => {
            assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0, "a refused stream must leave nothing behind");
            Err(error.to_string())
        }
    }
}

/// A stream around `tar`, its digest right: what a hostile or buggy sender could make.
fn sealed(header: &[u8], tar: &[u8], padding: &[u8]) -> Vec<u8> {
    let mut bytes = [header, tar, padding].concat();
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

fn tar_of(files: &[([u8; 512], &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (header, content) in files {
        tar.extend_from_slice(header);
        tar.extend_from_slice(content);
        tar.resize(tar.len() + padding_after(content.len() as u64) as usize, 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn foreign_header(name: &[u8], edit: impl FnOnce(&mut tar::Header)) -> [u8; 512] {
    let mut header = tar::Header::from_byte_slice(&file_header("x", 4).unwrap()).clone();
    header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name);
    edit(&mut header);
    header.set_cksum();
    *header.as_bytes()
}

#[test]
fn the_stream_is_frozen() {
    let bytes = small_stream(&[("CURRENT", 16), ("000012.sst", 513)]);
    assert_eq!(bytes.len(), 21 + (512 + 1024) + (512 + 512) + 1024 + 491 + 32);
    assert_eq!(bytes[..21], format::header());
    assert_eq!(&bytes[21..31], b"000012.sst", "ascending by name");
    let digest: String = bytes[bytes.len() - 32..].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "40f298bbb7c46ad1eb5f767798ff0110898cf20e5643dddec42769603487b50e");
    let files = unpack(&bytes, bytes.len() as u64).unwrap();
    assert_eq!(files, [("000012.sst".into(), 513), ("CURRENT".into(), 16)]);
}

#[test]
fn malformed_streams_are_refused_by_name() {
    let header = format::header();
    let padding = [0; 491];
    let good = file_header("x", 4).unwrap();
    let with_header = |at: usize, value: u8| {
        let mut header = header;
        header[at] = value;
        sealed(&header, &tar_of(&[(good, b"abcd")]), &padding)
    };
    let with_tar = |tar: &[u8]| sealed(&header, tar, &padding);
    let with_name = |name: &[u8]| with_tar(&tar_of(&[(foreign_header(name, |_| {}), b"abcd")]));
    let with_edit = |edit: fn(&mut tar::Header)| with_tar(&tar_of(&[(foreign_header(b"x", edit), b"abcd")]));
    let mut dirty_padding = padding;
    dirty_padding[490] = 1;
    let mut dirty_block = tar_of(&[(good, b"abcd")]);
    dirty_block[512 + 4] = 1;
    let mut dirty_end = tar_of(&[(good, b"abcd")]);
    *dirty_end.last_mut().unwrap() = 1;

    let table = [
        ("expected the magic", with_header(0, b'X')),
        ("found 0x00", with_header(16, 0)),
        ("found 0x02", with_header(16, 2)),
        ("expected format version 0, found 1", with_header(20, 1)),
        ("one plain component", with_name(b"/etc/passwd")),
        ("one plain component", with_name(b"../db")),
        ("one plain component", with_name(b"a/b")),
        ("one plain component", with_name(b".")),
        ("of type Symlink", with_edit(|header| header.set_entry_type(tar::EntryType::Symlink))),
        ("of type Link", with_edit(|header| header.set_entry_type(tar::EntryType::Link))),
        ("of type Directory", with_edit(|header| header.set_entry_type(tar::EntryType::Directory))),
        ("not in the form", with_edit(|header| header.set_mode(0o4755))),
        ("at most 8589934591 bytes of content", with_edit(|header| header.set_size(1 << 40))),
        ("claims 4294967296 bytes", with_edit(|header| header.set_size(1 << 32))),
        ("needs", with_edit(|header| header.set_size(1_500))),
        ("found \"x\" twice", with_tar(&tar_of(&[(good, b"abcd"), (good, b"abcd")]))),
        ("padding after a file must be zero", with_tar(&dirty_block)),
        ("second end block must be zero", with_tar(&dirty_end)),
        ("491 bytes before the trailer", with_tar(&[tar_of(&[(good, b"abcd")]), vec![0; 512]].concat())),
        ("padding after the tar must be zero", sealed(&header, &tar_of(&[(good, b"abcd")]), &dirty_padding)),
    ];
    for (expected, bytes) in table {
        let refusal = unpack(&bytes, bytes.len() as u64).unwrap_err();
        assert!(refusal.contains(expected), "expected {expected:?}, found {refusal:?}");
    }
}

#[test]
fn a_wrong_length_is_refused_both_ways() {
    let bytes = small_stream(&[("CURRENT", 16)]);
    let len = bytes.len() as u64;
    for (expected, bytes, declared) in [
        ("shorter than declared", &bytes[..bytes.len() - 1], len),
        ("shorter than declared", &bytes[..700], len),
        ("longer than declared", &[&bytes[..], b"x"].concat(), len),
        ("left of the declared length", &bytes, len - 512),
        ("the tar must end", &bytes, len + 512),
        ("modulo 512", &bytes, len - 32),
        ("modulo 512", &bytes, 32),
    ] {
        let refusal = unpack(bytes, declared).unwrap_err();
        assert!(refusal.contains(expected), "expected {expected:?}, found {refusal:?}");
    }
}

proptest! {
    #[test]
    fn any_flipped_bit_is_refused(at: prop::sample::Index, bit in 0..8) {
        let mut bytes = small_stream(&[("CURRENT", 16), ("MANIFEST-000004", 700)]);
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        prop_assert!(unpack(&bytes, bytes.len() as u64).is_err());
    }

    #[test]
    fn any_files_round_trip(lens in prop::collection::vec(0usize..3_000, 0..6)) {
        let names: Vec<_> = (0..lens.len()).map(|number| format!("{number:06}.sst")).collect();
        let files: Vec<_> = names.iter().map(String::as_str).zip(lens.iter().copied()).collect();
        let bytes = small_stream(&files);
        let expected: Vec<_> = files.iter().map(|(name, len)| ((*name).to_owned(), *len)).collect();
        prop_assert_eq!(unpack(&bytes, bytes.len() as u64).unwrap(), expected);
    }
}
