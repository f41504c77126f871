//! Several byte strings in one, each with its length before it as Protocol Buffers delimit
//! messages.
//!
//! Not a repeated field: a decoder would make as many values of one as its sender likes before
//! anything can be said about their number.

use prost::bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{decode_length_delimiter, encode_length_delimiter, length_delimiter_len};

pub fn join(items: &[Bytes]) -> Bytes {
    let bytes = items.iter().map(|item| length_delimiter_len(item.len()) + item.len()).sum();
    let mut joined = BytesMut::with_capacity(bytes);
    for item in items {
        // The buffer grows as it must, so there is always room.
        let _ = encode_length_delimiter(item.len(), &mut joined);
        joined.put_slice(item);
    }
    joined.freeze()
}

/// The items, which share `joined`'s memory.
///
/// # Errors
/// A sentence: there are more than `max`, or the bytes were not joined so.
pub fn split(mut joined: Bytes, max: usize) -> Result<Vec<Bytes>, String> {
    let mut items = Vec::new();
    while joined.has_remaining() {
        if items.len() == max {
            return Err(format!("expected at most {max} items, found more"));
        }
        let found = joined.len();
        let length = decode_length_delimiter(&mut joined).map_err(|error| format!("item {}: {error}", items.len()))?;
        if length > joined.len() {
            return Err(format!("item {}: expected {length} bytes, found {found} with the length", items.len()));
        }
        items.push(joined.split_to(length));
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_joined_is_split_again() {
        let items = [Bytes::new(), Bytes::from(vec![7; 300]), Bytes::from_static(b"x")];
        assert_eq!(split(join(&items), 3), Ok(items.to_vec()));
        assert_eq!(split(join(&[]), 0), Ok(Vec::new()));
    }

    #[test]
    fn too_many_items_and_broken_ones_are_refused_in_words() {
        let joined = join(&[Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        assert_eq!(split(joined.clone(), 1), Err("expected at most 1 items, found more".to_owned()));
        let cut = split(joined.slice(..2), 2).unwrap_err();
        assert!(cut.starts_with("item 0: expected 2 bytes"), "{cut}");
        assert!(split(Bytes::from_static(&[0xff; 12]), 2).unwrap_err().starts_with("item 0: "));
    }
}
