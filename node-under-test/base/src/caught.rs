//! Reading files that may be damaged, with libraries that panic on some of those.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The result of `read`; a panic in it becomes an error with the panic's words. What `read` has
/// opened must not be used afterwards.
pub fn caught<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let words = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("reading it panicked: {}", words.unwrap_or_else(|| "without a word".to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_words() {
        assert_eq!(caught(|| 7), Ok(7));
        assert_eq!(caught(|| panic!("page {}", 3)), Err::<(), _>("reading it panicked: page 3".to_owned()));
        assert_eq!(caught(|| panic!("torn")), Err::<(), _>("reading it panicked: torn".to_owned()));
    }
}
