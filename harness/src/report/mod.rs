//! The report directory: the results of a run, for readers who were not there.
//!
//! Contract: every file is a pure function of the [`RunSummary`]; none of them asks a live node,
//! the clock or the environment. Each file is replaced as a whole (temporary name, sync, rename). A
//! run that ended early is reported the same way, and every file says that it is partial.
//!
//! A full disk must not take the verdict: room for `verdict.json` and `junit.xml` is taken when the
//! run begins ([`reserve`]), they are written first and into that room, and a file that cannot be
//! written does not keep the others from being written.
//!
//! `plan.txt`, `scenario.toml`, the history and `nodes/` are written by the stages that produce
//! them.

mod chart;
pub mod grid;
mod html;
mod json;
mod junit;
pub mod localisation;
pub mod missing_sync;
pub mod page;
pub mod refused;
mod repro;
#[cfg(test)]
pub(crate) mod sample;
pub mod split;
pub mod suppressed;
mod tables;
pub mod text;
pub mod worth;

pub use json::read;
pub(crate) use text::percent;

use crate::paths::Paths;
use ninelives_evidence::limits;
use ninelives_evidence::record::{RunSummary, SCHEMA_VERSION};
use ninelives_evidence::verdict::Verdict;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A report could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot encode verdict.json: {0}")]
    Encode(serde_json::Error),
    #[error("cannot encode junit.xml: {0}")]
    Junit(#[from] quick_junit::SerializeError),
    #[error("{path} is not a report's verdict.json: {source}", path = path.display())]
    Malformed { path: PathBuf, source: serde_json::Error },
    #[error(
        "{path} has schema version {found}, this binary reads {SCHEMA_VERSION}: read it with the binary that wrote it",
        path = path.display()
    )]
    Version { path: PathBuf, found: u32 },
}

/// Writes `verdict.json`, `junit.xml`, `repro.sh` and `report.html` into the report directory,
/// which exists.
///
/// # Errors
/// The first file that could not be written; all others were tried as well, and those that could be
/// written are complete.
pub fn write(paths: &Paths, run: &RunSummary) -> Result<(), Error> {
    let verdict = json::write(paths, run);
    let junit = junit::render(run).and_then(|text| put(&paths.junit_xml(), text.as_bytes(), 0o644));
    let repro = put(&paths.repro_sh(), repro::render(run).as_bytes(), 0o755);
    let html = put(&paths.report_html(), html::render(run, &report_name(paths)).as_bytes(), 0o644);
    verdict.and(junit).and(repro).and(html)
}

/// Takes room for the verdict of a run of `cycles` in its report directory, which exists.
///
/// # Errors
/// There is no room.
pub fn reserve(paths: &Paths, cycles: u32) -> Result<(), Error> {
    let bytes = limits::REPORT_BYTES + u64::from(cycles) * limits::REPORT_BYTES_PER_CYCLE;
    for path in [paths.verdict_json(), paths.junit_xml()] {
        let path = temporary(&path);
        let file = open(&path, 0o644)?;
        let taken = match fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, bytes as i64) {
            // A filesystem that cannot take room without filling it.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => io::copy(&mut io::repeat(0).take(bytes), &mut &file).map(drop),
            taken => taken.map_err(io::Error::from),
        };
        taken.map_err(|source| Error::Io { doing: "take room for the report as", path, source })?;
    }
    Ok(())
}

/// Removes `verdict.json`, if there is one, because its run goes on.
///
/// # Errors
/// It cannot be removed.
pub fn forget(paths: &Paths) -> Result<(), Error> {
    let path = paths.verdict_json();
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Io { doing: "remove", path, source }),
        _ => Ok(()),
    }
}

/// The report directory as the user would type it.
fn report_name(paths: &Paths) -> String {
    paths.root().display().to_string()
}

/// Reason why this report covers less than was planned; `None`: it covers all of it.
fn partial(run: &RunSummary) -> Option<String> {
    let (cycles, cycles_planned) = (run.cycles.len() as u64, u64::from(run.plan.cycles));
    let (done, planned) = (text::number(cycles), text::number(cycles_planned));
    if run.interrupted {
        Some(format!("interrupted after {done} of {planned} planned cycles: this report is partial"))
    } else if cycles < cycles_planned {
        Some(format!("the run ended after {done} of {planned} planned cycles: this report is partial"))
    } else {
        None
    }
}

/// The verdict as a sentence.
fn verdict_sentence(run: &RunSummary) -> String {
    let cycles = text::number(run.cycles.len() as u64);
    let sentence = match run.verdict {
        Verdict::Pass if run.interrupted => {
            format!("No divergence found in the {cycles} cycles before the interruption")
        }
        Verdict::Pass => format!("No divergence found in {cycles} cycles"),
        Verdict::Violation => "The system under test broke a promise".to_owned(),
        Verdict::Liveness => "The system under test did not come back inside its bound".to_owned(),
        Verdict::HarnessError => "The harness failed: this says nothing about the system under test".to_owned(),
        Verdict::Inconclusive => "Too little happened for a pass to mean anything".to_owned(),
    };
    sentence + &suppressed::beside_the_verdict(run)
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// Opens `path` for writing over what is there: room that was taken stays taken.
fn open(path: &Path, mode: u32) -> Result<File, Error> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(mode).open(path);
    opened.map_err(|source| Error::Io { doing: "create", path: path.to_owned(), source })
}

/// Replaces `path` by `bytes` so that a reader sees the old content or the new one, whole.
fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let tmp = temporary(path);
    let fail = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { doing, path, source }
    };
    let mut file = open(&tmp, mode)?;
    // A left-over of an earlier attempt keeps its own mode through `open`.
    file.set_permissions(std::fs::Permissions::from_mode(mode)).map_err(fail("set the mode of", &tmp))?;
    file.write_all(bytes).map_err(fail("write", &tmp))?;
    file.set_len(bytes.len() as u64).map_err(fail("cut", &tmp))?;
    file.sync_all().map_err(fail("sync", &tmp))?;
    std::fs::rename(&tmp, path).map_err(fail("rename onto", path))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(fail("sync", parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_complete_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        let run = sample::failing();
        write(&paths, &run).unwrap();
        write(&paths, &run).unwrap();
        assert_eq!(read(&paths).unwrap(), run);
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["junit.xml", "report.html", "repro.sh", "verdict.json"]);
        let mode = std::fs::metadata(paths.repro_sh()).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "repro.sh is meant to be run");
    }

    #[test]
    fn room_that_was_taken_is_written_into_and_left_over_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        reserve(&paths, 100).unwrap();
        let blocks =
            || std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(dir.path().join("verdict.json.tmp")).unwrap());
        assert!(blocks() * 512 >= limits::REPORT_BYTES, "{} blocks", blocks());
        write(&paths, &sample::failing()).unwrap();
        assert_eq!(read(&paths).unwrap(), sample::failing());
        assert!(!dir.path().join("verdict.json.tmp").exists() && !dir.path().join("junit.xml.tmp").exists());
    }

    #[test]
    fn what_cannot_be_written_keeps_nothing_else_back() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        // A directory in the way of each of them in turn.
        for blocked in [paths.repro_sh(), paths.report_html(), paths.junit_xml()] {
            let _ = std::fs::remove_file(&blocked);
            std::fs::create_dir_all(blocked.join("x")).unwrap();
            let error = write(&paths, &sample::failing()).unwrap_err().to_string();
            assert!(error.contains(blocked.to_str().unwrap()), "{error}");
            assert_eq!(read(&paths).unwrap(), sample::failing());
            std::fs::remove_dir_all(&blocked).unwrap();
            std::fs::remove_file(paths.verdict_json()).unwrap();
        }
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = write(&Paths::new("/nonexistent/report"), &sample::run()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/report/verdict.json"), "{error}");
    }

    #[test]
    fn only_a_run_that_ended_early_is_partial() {
        let mut run = sample::run();
        assert_eq!(partial(&run), None);
        run.cycles.pop();
        assert!(partial(&run).unwrap().contains("5 of 6"));
        run.interrupted = true;
        assert!(partial(&run).unwrap().contains("interrupted"));
    }
}
