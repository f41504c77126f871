//! Bytes as text: the form of keys and values in the history.
//!
//! Most are printable, and most of a value is filler. So: UTF-8 stands for itself; filler in front
//! (`xxxxxxxx…`) is `~x<length>~` before the rest; anything else is `~h~` and the bytes in hex. A
//! text of our own never begins with `~` otherwise.

use crate::hex::{hex, unhex};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// Filler shorter than this stands for itself.
const FILLER_MIN: usize = 8;

/// The text of `bytes`.
pub fn encode(bytes: &[u8]) -> Cow<'_, str> {
    let filler = bytes.iter().take_while(|byte| **byte == b'x').count();
    match std::str::from_utf8(bytes) {
        Ok(text) if filler >= FILLER_MIN => Cow::Owned(format!("~x{filler}~{}", &text[filler..])),
        Ok(text) if !text.starts_with('~') => Cow::Borrowed(text),
        _ => Cow::Owned(format!("~h~{}", hex(bytes))),
    }
}

/// The bytes that [`encode`] wrote as `text`.
///
/// # Errors
/// No such text is ever written.
pub fn decode(text: &str) -> Result<Vec<u8>, String> {
    let Some(coded) = text.strip_prefix('~') else { return Ok(text.as_bytes().to_vec()) };
    let wrong = || format!("expected text, ~x<length>~ and text, or ~h~ and hex, found {text:?}");
    let (kind, rest) = coded.split_once('~').ok_or_else(wrong)?;
    if kind == "h" {
        return unhex(rest).ok_or_else(wrong);
    }
    let length: usize = kind.strip_prefix('x').and_then(|length| length.parse().ok()).ok_or_else(wrong)?;
    // No written value is longer than a request may be.
    if length > crate::limits::VALUE_BYTES_MAX as usize {
        return Err(wrong());
    }
    Ok([&vec![b'x'; length][..], rest.as_bytes()].concat())
}

/// Bytes that are written as [`encode`] does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub Vec<u8>);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        decode(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// For fields that are strings: `#[serde(with = "…::text::string")]`.
pub mod string {
    use super::{decode, encode};
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(text.as_bytes()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        let bytes = decode(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)?;
        String::from_utf8(bytes).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_usual_is_short_and_readable() {
        assert_eq!(encode(b"41,3.17"), "41,3.17");
        assert_eq!(encode(format!("{},3.17", "x".repeat(200)).as_bytes()), "~x200~,3.17");
        assert_eq!(encode(b"\xff"), "~h~ff");
        assert_eq!(encode(b"~x9~"), "~h~7e78397e");
        for wrong in ["~", "~x~a", "~x99999999999~", "~h~f", "~h~zz", "~y~"] {
            assert!(decode(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_reads_back(bytes: Vec<u8>, filler in 0usize..40, text in "[~x,.0-9a-z]{0,12}") {
            for bytes in [bytes, format!("{}{text}", "x".repeat(filler)).into_bytes()] {
                prop_assert_eq!(decode(&encode(&bytes)).unwrap(), bytes);
            }
        }
    }
}
