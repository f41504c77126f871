//! Bytes in lower-case hex: the one codec.

/// `bytes`, two digits each.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that `text` stands for; `None` if it is not hex.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let clean = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    clean.then(|| text.as_bytes().chunks(2).map(digits).collect())?
}

/// The `BYTES` bytes that `text` stands for.
///
/// # Errors
/// `text` is not that many bytes in hex; the error quotes it.
pub fn unhex_exactly<const BYTES: usize>(text: &str) -> Result<[u8; BYTES], String> {
    let bytes = unhex(text).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| format!("expected {BYTES} bytes in hex, found {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_back_and_nothing_else_does() {
        assert_eq!(hex(&[0, 15, 255]), "000fff");
        assert_eq!(unhex("000fFf"), Some(vec![0, 15, 255]));
        for wrong in ["0", "0g", "+f", "é"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
        assert_eq!(unhex_exactly("0fff"), Ok([15, 255]));
        assert_eq!(unhex_exactly::<1>("0fff"), Err("expected 1 bytes in hex, found \"0fff\"".to_owned()));
    }
}
