//! One change of a revision, on one line of the history.

use crate::text::{Text, encode};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// One change of a revision, as a watch delivered it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    Put { key: Vec<u8>, value: Vec<u8>, create_revision: u64, version: u64, lease: i64 },
    Delete { key: Vec<u8> },
}

impl Change {
    pub fn key(&self) -> &[u8] {
        match self {
            Change::Put { key, .. } | Change::Delete { key } => key,
        }
    }
}

impl Serialize for Change {
    /// `[key, value, create revision, version, lease]` for a put, `[key]` for a delete.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Change::Put { key, value, create_revision, version, lease } => {
                (encode(key), encode(value), create_revision, version, lease).serialize(serializer)
            }
            Change::Delete { key } => (encode(key),).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Change {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Change;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[key], or [key, value, create revision, version, lease]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<Change, A::Error> {
                let missing = |at| serde::de::Error::invalid_length(at, &self);
                let Text(key) = fields.next_element()?.ok_or_else(|| missing(0))?;
                let Some(Text(value)) = fields.next_element()? else { return Ok(Change::Delete { key }) };
                let create_revision = fields.next_element()?.ok_or_else(|| missing(2))?;
                let version = fields.next_element()?.ok_or_else(|| missing(3))?;
                let lease = fields.next_element()?.ok_or_else(|| missing(4))?;
                Ok(Change::Put { key, value, create_revision, version, lease })
            }
        }
        deserializer.deserialize_seq(Fields)
    }
}
