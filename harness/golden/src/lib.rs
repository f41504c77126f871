//! The golden files of the harness's unit tests, in `harness/tests/golden/`, and tables in
//! documents that are made from code. Only tests link this.

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

/// Compares the table that stands under `heading` in a document, a path from the top of the
/// repository, with `table`; `NINELIVES_BLESS=1` rewrites it.
///
/// # Panics
/// They differ, or the document has no such heading with a table, or cannot be written.
pub fn assert_table(document: &str, heading: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(document);
    let text = std::fs::read_to_string(&path).expect("a document can be read");
    let (before, section) = text.split_once(&format!("\n{heading}\n")).expect("the document has the heading");
    let (prose, rest) = section.split_once("\n|").expect("a table stands under the heading");
    let (rows, after) = rest.split_once("\n\n").unwrap_or((rest.trim_end(), ""));
    if std::env::var_os("NINELIVES_BLESS").is_some() {
        let after = if after.is_empty() { String::new() } else { format!("\n{after}") };
        let text = format!("{before}\n{heading}\n{prose}\n{table}\n{after}");
        return std::fs::write(&path, text).expect("a document can be written");
    }
    assert!(
        format!("|{rows}") == table,
        "the table under {heading:?} in {document} is not what it was; look at the change, then bless it with \
         NINELIVES_BLESS=1"
    );
}
