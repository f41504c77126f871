//! A row of the kv section: encoded once, read in place.

use ninelives_evidence::operation::KeyState;

/// A key that exists, at some revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live<'a> {
    pub value: &'a [u8],
    pub create_revision: u64,
    pub mod_revision: u64,
    pub version: u64,
    pub lease: i64,
}

impl<'a> From<&'a KeyState> for Live<'a> {
    fn from(row: &'a KeyState) -> Self {
        Self {
            value: &row.value,
            create_revision: row.create_revision,
            mod_revision: row.mod_revision,
            version: row.version,
            lease: row.lease,
        }
    }
}

impl Live<'_> {
    /// The row of `key`, as the history has it.
    pub fn state(&self, key: &[u8]) -> KeyState {
        KeyState {
            key: key.to_vec(),
            value: self.value.to_vec(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Row {
    /// The row exactly as it enters the hash; key and value are slices of it.
    encoded: Box<[u8]>,
    key_len: usize,
    mod_revision: u64,
    /// Create revision, version and lease of a put; `None` for a tombstone.
    put: Option<(u64, u64, i64)>,
}

/// u64 main, u64 sub, u8 kind, u32 key length.
const KEY_AT: usize = 8 + 8 + 1 + 4;
/// After the key: u64 create revision, u64 version, u64 lease, u32 value length.
const VALUE_AFTER_KEY: usize = 8 + 8 + 8 + 4;

impl Row {
    pub fn put(at: (u64, u32), key: &[u8], value: &[u8], (create, version): (u64, u64), lease: i64) -> Self {
        let mut encoded = Vec::with_capacity(KEY_AT + key.len() + VALUE_AFTER_KEY + value.len());
        head(&mut encoded, at, 0, key);
        encoded.extend(create.to_be_bytes());
        encoded.extend(version.to_be_bytes());
        encoded.extend(lease.to_be_bytes());
        sized(&mut encoded, value);
        let put = Some((create, version, lease));
        Self { encoded: encoded.into(), key_len: key.len(), mod_revision: at.0, put }
    }

    pub fn tombstone(at: (u64, u32), key: &[u8]) -> Self {
        let mut encoded = Vec::with_capacity(KEY_AT + key.len());
        head(&mut encoded, at, 1, key);
        Self { encoded: encoded.into(), key_len: key.len(), mod_revision: at.0, put: None }
    }

    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    pub fn key(&self) -> &[u8] {
        &self.encoded[KEY_AT..KEY_AT + self.key_len]
    }

    pub fn live(&self) -> Option<Live<'_>> {
        let (create_revision, version, lease) = self.put?;
        let value = &self.encoded[KEY_AT + self.key_len + VALUE_AFTER_KEY..];
        Some(Live { value, create_revision, mod_revision: self.mod_revision, version, lease })
    }
}

fn head(encoded: &mut Vec<u8>, (main, sub): (u64, u32), kind: u8, key: &[u8]) {
    encoded.extend(main.to_be_bytes());
    encoded.extend(u64::from(sub).to_be_bytes());
    encoded.push(kind);
    sized(encoded, key);
}

fn sized(encoded: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("a gRPC message is smaller than 4 GiB");
    encoded.extend(len.to_be_bytes());
    encoded.extend(bytes);
}
