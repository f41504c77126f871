//! The golden files of the harness's unit tests, in `harness/tests/golden/`. Only tests link this.

use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

/// The content of the golden file `name`; nothing if there is none yet.
pub fn stored(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_default()
}

/// Compares `text` with the golden file `name`, which `NINELIVES_BLESS=1` rewrites.
///
/// # Panics
/// They differ, or the file cannot be written.
pub fn assert_golden(name: &str, text: &str) {
    if std::env::var_os("NINELIVES_BLESS").is_some() {
        std::fs::write(path(name), text).expect("a golden file can be written");
    }
    assert!(
        stored(name) == text,
        "{name} is not what it was; look at the change, then bless it with NINELIVES_BLESS=1"
    );
}
