//! `verdict.json`: the run's record and its worth, with a schema version; every later command reads
//! it.
//!
//! Fields are only added while the version stays the same, so an older reader reads a newer file of
//! its version.

use super::{Error, put};
use crate::paths::Paths;
use crate::report::worth::Worth;
use ninelives_evidence::record::{RunSummary, SCHEMA_VERSION};
use serde::{Deserialize, Serialize};
use std::path::Path;

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    run: &'a RunSummary,
    worth: Worth,
}

/// The text of `verdict.json`, with a newline at its end.
pub fn render(run: &RunSummary) -> Result<String, Error> {
    let mut text = serde_json::to_string_pretty(&Document { run, worth: Worth::of(run) }).map_err(Error::Encode)?;
    text.push('\n');
    Ok(text)
}

pub(super) fn write(paths: &Paths, run: &RunSummary) -> Result<(), Error> {
    put(&paths.verdict_json(), render(run)?.as_bytes(), 0o644)
}

/// Reads the record back from a report directory.
///
/// # Errors
/// No such file, not JSON of this shape, or another schema version; each names the file.
pub fn read(paths: &Paths) -> Result<RunSummary, Error> {
    let path = paths.verdict_json();
    let bytes = std::fs::read(&path).map_err(|source| Error::Io { doing: "read", path: path.clone(), source })?;
    parse(&path, &bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<RunSummary, Error> {
    /// Read first and alone: the rest of another version's file may not have our shape.
    #[derive(Deserialize)]
    struct Version {
        schema_version: u32,
    }
    let malformed = |source| Error::Malformed { path: path.to_owned(), source };
    let Version { schema_version: found } = serde_json::from_slice(bytes).map_err(malformed)?;
    if found != SCHEMA_VERSION {
        return Err(Error::Version { path: path.to_owned(), found });
    }
    serde_json::from_slice(bytes).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn what_is_written_reads_back() {
        let run = sample::failing();
        let text = render(&run).unwrap();
        assert_eq!(parse(Path::new("verdict.json"), text.as_bytes()).unwrap(), run);
    }

    #[test]
    fn golden() {
        ninelives_golden::assert_golden("verdict.json", &render(&sample::failing()).unwrap());
    }

    #[test]
    fn a_record_from_before_the_rate_reads_back_without_one() {
        let mut text: serde_json::Value = serde_json::from_str(&render(&sample::run()).unwrap()).unwrap();
        assert!(text.as_object_mut().unwrap().remove("load_ms").is_some());
        let run = parse(Path::new("verdict.json"), text.to_string().as_bytes()).unwrap();
        assert_eq!((run.load.ran_ms, run.writes_per_second(), run.load.acked_writes), (0, None, 12_345));
        assert_eq!(sample::run().writes_per_second(), Some(411), "12,345 in 30 seconds");
    }

    #[test]
    fn another_version_is_refused_by_number_even_if_the_shape_changed() {
        let error = parse(Path::new("r/verdict.json"), br#"{"schema_version": 99, "cycles": "gone"}"#).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("99") && text.contains("r/verdict.json"), "{text}");
    }

    #[test]
    fn a_truncated_file_is_an_error_that_names_it() {
        let text = render(&sample::run()).unwrap();
        let error = parse(Path::new("r/verdict.json"), &text.as_bytes()[..text.len() / 2]).unwrap_err();
        assert!(error.to_string().contains("r/verdict.json"), "{error}");
    }
}
