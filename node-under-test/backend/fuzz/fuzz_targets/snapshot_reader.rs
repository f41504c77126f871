//! Any bytes as a snapshot: the reader refuses or accepts, and never panics, overruns its declared length, or leaves
//! anything behind that it refused.
//!
//! The first byte chooses how much of the rest the fuzzer has to get right: a digest is something it would never guess, so it is
//! computed for it in all modes but the first.

#![no_main]

use libfuzzer_sys::fuzz_target;
use node_backend::snapshot::format::{self, PADDING_BYTES};
use node_backend::snapshot::read::RawSnapshot;
use node_base::backend::Declared;
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::io::{self, Read};

/// Counts what is read.
struct Counted<'a> {
    bytes: &'a [u8],
    read: &'a Cell<u64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.bytes.read(buf)?;
        self.read.set(self.read.get() + n as u64);
        Ok(n)
    }
}

fn sealed(parts: &[&[u8]]) -> Vec<u8> {
    let mut stream = parts.concat();
    let digest = Sha256::digest(&stream);
    stream.extend_from_slice(&digest);
    stream
}

fuzz_target!(|input: &[u8]| {
    let [mode, rest @ ..] = input else { return };
    let (stream, sha256) = match mode % 4 {
        // Nothing is right but what the fuzzer makes so.
        0 => (rest.to_vec(), None),
        // A legacy file with its digest.
        1 => ([b"redb\x1a\x0a\xa9\x0d\x0a", rest].concat(), None),
        // Header and digest are right.
        2 => (sealed(&[&format::header(), rest]), None),
        // So are the tar's end and the padding: what is left is a list of files.
        _ => (sealed(&[&format::header(), rest, &[0; 1024], &[0; PADDING_BYTES as usize]]), None),
    };
    let sha256 = if mode % 4 == 1 { Some(Sha256::digest(&stream).into()) } else { sha256 };
    // The rest of the first byte is what the carrier's length is off by.
    let wire_size = (stream.len() as u64).wrapping_add_signed(i64::from(mode >> 2) - i64::from(mode >> 2 > 31) * 64);
    let tmp = tempfile::tempdir().expect("a temporary directory");
    let (path, read) = (tmp.path().join("db.incoming"), Cell::new(0));
    let mut source = Counted { bytes: &stream, read: &read };
    let taken = RawSnapshot::new(&mut source, Declared { wire_size, sha256 }).and_then(|raw| raw.unpack(&path));
    // One byte more, to see that nothing follows.
    assert!(read.get() <= wire_size.max(17).saturating_add(1), "{} bytes read of {wire_size}", read.get());
    match taken {
        Ok(unpacked) => {
            assert_eq!(read.get(), wire_size, "accepted without having read all of it");
            drop(unpacked);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert!(!path.exists(), "something was left behind");
});
