//! Any bytes as a snapshot: the reader refuses or accepts, and never panics, overruns its declared
//! length, or leaves anything behind that it refused.
//!
//! The first byte chooses how much of the rest the fuzzer has to get right: a digest is something
//! it would never guess, so it is computed for it in all modes but the first.

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

/// A tar of what `input` describes: for each file the length of its name, its name, the length of
/// its content in bytes of a repeated one; with one byte changed where the first two bytes say, if
/// they say anything.
fn tar_of(input: &[u8]) -> Vec<u8> {
    const NAME_CHARS: &[u8] = b"ABCDEFGHIJKLMNOP0123456789.-_/";
    let [high, low, change, rest @ ..] = input else { return Vec::new() };
    let (mut tar, mut rest) = (Vec::new(), rest);
    while let [name_bytes, more @ ..] = rest {
        let name_bytes = usize::from(name_bytes % 12).min(more.len());
        let (name, more) = more.split_at(name_bytes);
        let [len, fill, more @ ..] = more else { break };
        let name: String = name.iter().map(|at| char::from(NAME_CHARS[usize::from(*at) % NAME_CHARS.len()])).collect();
        let len = usize::from(*len) * 5;
        // A file that the format does not allow has no header, and so is left out.
        if let Ok(header) = format::file_header(&name, len as u64) {
            tar.extend_from_slice(&header);
            tar.extend(std::iter::repeat_n(*fill, len));
            tar.resize(tar.len() + format::padding_after(len as u64) as usize, 0);
        }
        rest = more;
    }
    let at = usize::from(u16::from_be_bytes([*high, *low]));
    if let Some(byte) = tar.get_mut(at) {
        *byte ^= change;
    }
    tar
}

fuzz_target!(|input: &[u8]| {
    let [mode, rest @ ..] = input else { return };
    let (header, end) = (format::header(), [0; 1024 + PADDING_BYTES as usize]);
    let (stream, legacy) = match mode % 5 {
        // Nothing is right but what the fuzzer makes so.
        0 => (rest.to_vec(), false),
        // A legacy file with its digest.
        1 => ([b"redb\x1a\x0a\xa9\x0d\x0a", rest].concat(), true),
        // Header and digest are right.
        2 => (sealed(&[&header, rest]), false),
        // So are the tar's end and the padding: what is left is a list of files ...
        3 => (sealed(&[&header, rest, &end]), false),
        // ... which is right as well, but for one byte.
        _ => (sealed(&[&header, &tar_of(rest), &end]), false),
    };
    let sha256 = legacy.then(|| Sha256::digest(&stream).into());
    // The rest of the first byte is what the carrier's length is off by: mostly nothing.
    let off = [0, 0, 0, 0, 1, -1, 512, -512][usize::from(mode / 5) % 8];
    let wire_size = (stream.len() as u64).wrapping_add_signed(off);
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
