//! The bytes of the wire format that writer and reader share.

use crate::engine::EngineKind;
use node_base::backend::SnapshotError;

/// With the engine id, the routing header.
pub const MAGIC: [u8; 16] = *b"ETCDSNAP\0\0\0\0\0\0\0\0";
/// The first bytes of a legacy stream, because every redb file begins with them.
pub const LEGACY_MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
/// Bytes that choose a reader: the magic and the engine id, or the beginning of a legacy file.
pub const ROUTING_BYTES: usize = MAGIC.len() + 1;
pub const VERSION: u32 = 0;
pub const HEADER_BYTES: u64 = 21;
/// A tar block; every file is padded to whole blocks.
pub const BLOCK_BYTES: u64 = 512;
/// Two zero blocks end a tar.
pub const TAR_END_BYTES: u64 = 2 * BLOCK_BYTES;
/// Bytes that bring header and padding to a whole block, so that with the trailer 32 modulo 512
/// bytes go out.
pub const PADDING_BYTES: u64 = 491;
pub const TRAILER_BYTES: u64 = 32;
/// Longest name of a file: what a ustar header holds without its prefix field.
pub const NAME_BYTES_MAX: usize = 100;
/// Most files in a snapshot: bounds what a reader remembers of names.
pub const FILES_MAX: usize = 1 << 16;
/// Longest file: what a ustar header states in octal digits.
pub const FILE_BYTES_MAX: u64 = (1 << 33) - 1;

/// The 21 bytes in front.
pub fn header() -> [u8; HEADER_BYTES as usize] {
    let mut out = [0; HEADER_BYTES as usize];
    out[..16].copy_from_slice(&MAGIC);
    out[16] = EngineKind::Rocksdb.id();
    out[17..].copy_from_slice(&VERSION.to_be_bytes());
    out
}

/// Lower-case hex, for errors.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Zero bytes after a file of `len` bytes.
pub fn padding_after(len: u64) -> u64 {
    len.wrapping_neg() % BLOCK_BYTES
}

/// True if `name` can be a file of a checkpoint: one path component, nothing hidden, no surprises.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// The one tar header that a file of this name and length may have: fixed mode, no times, no
/// owners, so that the same checkpoint gives the same bytes anywhere.
pub fn file_header(name: &str, len: u64) -> Result<[u8; BLOCK_BYTES as usize], SnapshotError> {
    if !is_plain_name(name) || len > FILE_BYTES_MAX {
        return Err(SnapshotError::Refused(format!(
            "a file must have a plain name of at most {NAME_BYTES_MAX} bytes and at most {FILE_BYTES_MAX} bytes of content, \
             found {name:?} with {len} bytes"
        )));
    }
    let mut header = tar::Header::new_ustar();
    header.set_path(name).map_err(SnapshotError::io(format!("tar header of {name:?}")))?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(len);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(*header.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_frozen() {
        assert_eq!(header(), *b"ETCDSNAP\0\0\0\0\0\0\0\0\x01\0\0\0\0");
        assert_eq!(HEADER_BYTES + PADDING_BYTES, BLOCK_BYTES);
    }

    #[test]
    fn padding_fills_blocks() {
        for (len, padding) in [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)] {
            assert_eq!(padding_after(len), padding, "{len}");
        }
    }

    #[test]
    fn names_that_could_leave_the_directory_are_not_plain() {
        for name in ["CURRENT", "MANIFEST-000005", "000123.sst", "OPTIONS-000007"] {
            assert!(is_plain_name(name), "{name}");
        }
        for name in ["", ".", "..", "../x", "/etc/passwd", "a/b", ".hidden", "a\0b", "a b", &"x".repeat(101)] {
            assert!(!is_plain_name(name), "{name:?}");
        }
    }
}
