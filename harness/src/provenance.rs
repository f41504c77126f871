//! The provenance of a run: digests of the binaries, the machine's kernel and filesystem, the
//! tree's git revision.
//!
//! Nothing here can end a run: a fact that cannot be found out is reported as unknown.

use crate::process::{Launch, Spawner};
use anyhow::Context;
use ninelives_evidence::hex::hex;
use ninelives_evidence::limits;
use ninelives_evidence::record::BinaryId;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Digest and version of the binary at `path`.
///
/// # Errors
/// It cannot be read.
pub async fn binary(spawner: &Spawner, path: &Path) -> anyhow::Result<BinaryId> {
    let sha256 = digest(path)?;
    let asked =
        spawner.output(Launch::new(path, vec!["--version".into()]), limits::VERSION, limits::INSPECT_BYTES_MAX).await;
    let said = asked.ok().filter(|output| output.success()).map(|output| output.text());
    // Further lines are the compiler's version and the like.
    let version = said.and_then(|text| text.lines().next().map(str::to_owned));
    Ok(BinaryId { path: path.display().to_string(), sha256, version })
}

/// Which bytes a file holds, as far as the filesystem can say: device, inode, length, time of the
/// last change (s, ns).
type Stamp = (u64, u64, u64, i64, i64);

/// Digests of files that have not changed since. A command that makes many runs would spend more
/// time on its binaries than on some of the runs.
static DIGESTS: Mutex<BTreeMap<Stamp, String>> = Mutex::new(BTreeMap::new());

/// SHA-256 of the file at `path`, lower-case hex.
pub fn digest(path: &Path) -> anyhow::Result<String> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let is = file.metadata().with_context(|| format!("cannot look at {}", path.display()))?;
    let stamp = (is.dev(), is.ino(), is.len(), is.ctime(), is.ctime_nsec());
    let known = || DIGESTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(digest) = known().get(&stamp) {
        return Ok(digest.clone());
    }
    let digest = digest_of(file, path)?;
    known().insert(stamp, digest.clone());
    Ok(digest)
}

/// SHA-256 of this executable; `None`: it cannot be read any more.
pub fn own_build() -> Option<String> {
    digest(&std::env::current_exe().ok()?).ok()
}

fn digest_of(mut file: File, path: &Path) -> anyhow::Result<String> {
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut chunk).with_context(|| format!("cannot read {}", path.display()))? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&chunk[..read]),
        }
    }
}

/// `Linux 6.18.5`.
pub fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {}", if release.is_empty() { "unknown" } else { release.trim_end() })
}

/// The type of the filesystem that holds `path`, as `/proc/self/mountinfo` names it.
pub fn filesystem(path: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    filesystem_in(&mounts, &path).unwrap_or_else(|| "unknown".to_owned())
}

fn filesystem_in(mounts: &str, path: &Path) -> Option<String> {
    let of_line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?;
        path.starts_with(point).then(|| (point.len(), after.split(' ').next().unwrap_or("unknown").to_owned()))
    };
    // Of equal mount points the last one covers the others.
    mounts.lines().filter_map(of_line).max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

/// The revision of the git tree around the current directory, with `-dirty` if it was changed
/// since.
pub async fn git_revision(spawner: &Spawner) -> Option<String> {
    let args = ["describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"].map(OsString::from).to_vec();
    let output = spawner.output(Launch::new("git", args), limits::VERSION, limits::INSPECT_BYTES_MAX).await.ok()?;
    output.success().then(|| output.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_names_the_filesystem() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /tmp rw shared:1 - tmpfs tmpfs rw\n\
                      3 1 0:6 / /tmp/x rw - xfs /dev/b rw\n";
        let of = |path: &str| filesystem_in(mounts, Path::new(path)).unwrap();
        assert_eq!((of("/home").as_str(), of("/tmp/y").as_str(), of("/tmp/x/z").as_str()), ("ext4", "tmpfs", "xfs"));
    }

    #[test]
    fn a_digest_is_that_of_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), b"abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(&dir.path().join("f")).unwrap(), expected);
        assert_eq!(digest(&dir.path().join("f")).unwrap(), expected);
        std::fs::write(dir.path().join("f"), b"abcd").unwrap();
        assert_ne!(digest(&dir.path().join("f")).unwrap(), expected, "a changed file is read again");
    }
}
