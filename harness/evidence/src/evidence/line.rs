//! Reading one line of a history.
//!
//! An entry of a raft log may hold a transaction as deep as members take it, and its line is then
//! deeper than the JSON library reads by default. A line that is deeper than any of ours is refused
//! by that default, so that no file can use up the stack.

use serde::de::DeserializeOwned;

/// Levels of the deepest line: 48 nested transactions take some 160.
const DEPTH_MAX: usize = 512;

/// # Errors
/// The line is not the JSON of a `T`, or is deeper than a history's lines are.
pub fn read_line<T: DeserializeOwned>(line: &[u8]) -> serde_json::Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(line);
    if depth(line) <= DEPTH_MAX {
        reader.disable_recursion_limit();
    }
    let read = T::deserialize(&mut reader)?;
    reader.end()?;
    Ok(read)
}

/// The greatest depth of nested lists and objects.
fn depth(line: &[u8]) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    let (mut in_text, mut escaped) = (false, false);
    for byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                now += 1;
                most = most.max(now);
            }
            b']' | b'}' if !in_text => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn deep_lines_are_read_and_deeper_ones_refused() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for levels in [1, 127, 128, DEPTH_MAX] {
            assert!(read_line::<Value>(nested(levels).as_bytes()).is_ok(), "{levels}");
        }
        for levels in [DEPTH_MAX + 1, 1_000_000] {
            assert!(read_line::<Value>(nested(levels).as_bytes()).is_err(), "{levels}");
        }
        assert_eq!(depth(br#"{"a":"[[[\"{","b":[{}]}"#), 3);
        assert!(read_line::<Value>(b"[] []").is_err(), "one value a line");
    }
}
