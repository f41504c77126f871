//! Rows of [`Bucket::Key`]: one per change of a key, in revision order.
//!
//! Key: `u64 main, u64 sub` (big-endian), then the kind byte. Value: a prost `mvccpb.KeyValue`; a
//! tombstone holds the key and its mod revision only. Because the order of the rows is the order of
//! the changes, a scan is history, and no row is ever rewritten.

use super::Error;
use node_base::backend::Bucket;
use node_proto::mvccpb::KeyValue;
use prost::Message;

pub const BUCKET: Bucket = Bucket::Key;
pub const ROW_KEY_BYTES: usize = 17;

/// A position in history: `main` counts the entries that changed keys (the first is 2, as in etcd),
/// `sub` the changes inside one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    pub main: i64,
    pub sub: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    Put = 0,
    Tombstone = 1,
}

/// Place of a row in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    pub revision: Revision,
    pub kind: Kind,
}

impl RowKey {
    pub fn encode(self) -> [u8; ROW_KEY_BYTES] {
        let mut out = [0; ROW_KEY_BYTES];
        out[..8].copy_from_slice(&self.revision.main.to_be_bytes());
        out[8..16].copy_from_slice(&self.revision.sub.to_be_bytes());
        out[16] = self.kind as u8;
        out
    }

    /// # Errors
    /// [`Error::Corrupt`] for anything that [`RowKey::encode`] cannot have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = || Error::Corrupt(format!("expected a 17-byte row key, found {bytes:02x?}"));
        let fixed: &[u8; ROW_KEY_BYTES] = bytes.try_into().map_err(|_| corrupt())?;
        let number = |from: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&fixed[from..from + 8]);
            i64::from_be_bytes(word)
        };
        let kind = match fixed[16] {
            0 => Kind::Put,
            1 => Kind::Tombstone,
            _ => return Err(corrupt()),
        };
        let revision = Revision { main: number(0), sub: number(8) };
        if revision.main < 0 || revision.sub < 0 {
            return Err(corrupt());
        }
        Ok(RowKey { revision, kind })
    }
}

/// The smallest key of any row whose main revision is `main` or more; a bound for scans.
pub fn first_key_of(main: i64) -> [u8; 8] {
    main.max(0).to_be_bytes()
}

/// # Errors
/// [`Error::Corrupt`], naming the row.
pub fn decode_value(at: RowKey, bytes: &[u8]) -> Result<KeyValue, Error> {
    KeyValue::decode(bytes)
        .map_err(|error| Error::Corrupt(format!("row {}.{}: {error}", at.revision.main, at.revision.sub)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Encoded keys sort as revisions do, or history would be read out of order.
        #[test]
        fn keys_round_trip_and_sort_by_revision(a in 0i64.., b in 0i64.., c in 0i64.., d in 0i64..) {
            let left = RowKey { revision: Revision { main: a, sub: b }, kind: Kind::Put };
            let right = RowKey { revision: Revision { main: c, sub: d }, kind: Kind::Tombstone };
            prop_assert_eq!(RowKey::decode(&left.encode()).unwrap(), left);
            prop_assert_eq!(left.cmp(&right), left.encode().cmp(&right.encode()));
            prop_assert!(first_key_of(a).as_slice() <= left.encode().as_slice());
        }

        #[test]
        fn foreign_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(key) = RowKey::decode(&bytes) {
                prop_assert_eq!(key.encode().to_vec(), bytes);
            }
        }
    }
}
