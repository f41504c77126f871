//! What the harness knows about the system under test before it has started it: the crash windows, how each
//! can be reached, and the node's command line.
//!
//! The harness never links the node, so the window table here is its own; a node that does not know a window
//! refuses to arm it, which is a harness error and never a silent skip.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What must happen to a member before it passes a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Writes are enough, on any member.
    Load,
    /// An election: the leader is killed first, and a follower passes the window while it votes.
    Election,
    /// A restart: the member is killed first (at `prior`, if the window needs such a state to start from, or
    /// else at once), restarted with the window armed, and killed again there.
    Recovery { prior: Option<&'static str> },
    /// A follower is kept away until the others have purged past its log, and is then restarted: it passes the
    /// window while it installs a snapshot.
    SnapshotReceiver,
    /// The same, but the leader passes the window while it sends.
    SnapshotSender,
}

/// A named step of a protocol in which a kill can land.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub name: &'static str,
    pub reach: Reach,
    /// Plans draw the hit from `1..=hit_max`: how many passes surely come within one cycle's load.
    pub hit_max: u64,
}

const fn window(name: &'static str, reach: Reach, hit_max: u64) -> Window {
    Window { name, reach, hit_max }
}

/// Every window that a scenario may name, in the order of the protocols.
pub const WINDOWS: &[Window] = &[
    window("raft.append", Reach::Load, 40),
    window("raft.fsync", Reach::Load, 40),
    window("raft.synced", Reach::Load, 40),
    window("vote.save", Reach::Election, 1),
    window("vote.saved", Reach::Election, 1),
    window("apply.before-batch", Reach::Load, 150),
    window("apply.after-batch", Reach::Load, 150),
    window("flush.sealed", Reach::Load, 2),
    window("flush.begin", Reach::Load, 2),
    window("flush.completed", Reach::Load, 2),
    window("index.tmp-written", Reach::Load, 2),
    window("index.tmp-synced", Reach::Load, 2),
    window("index.renamed", Reach::Load, 2),
    window("index.persisted", Reach::Load, 2),
    window("purge.before", Reach::Load, 1),
    window("purge.between", Reach::Load, 1),
    window("purge.done", Reach::Load, 1),
    window("snapshot.send", Reach::SnapshotSender, 1),
    window("snapshot.sending", Reach::SnapshotSender, 1),
    window("snapshot.receive", Reach::SnapshotReceiver, 1),
    window("snapshot.unpack", Reach::SnapshotReceiver, 1),
    window("snapshot.unpacked", Reach::SnapshotReceiver, 1),
    window("snapshot.exchanged", Reach::SnapshotReceiver, 1),
    window("snapshot.persist", Reach::SnapshotReceiver, 1),
    window("snapshot.persisted", Reach::SnapshotReceiver, 1),
    window("snapshot.delete-old", Reach::SnapshotReceiver, 1),
    window("recovery.engine-open", Reach::Recovery { prior: None }, 1),
    window("recovery.engine-opened", Reach::Recovery { prior: None }, 1),
    // Only a life that ended between the flush and its persisted index leaves entries in (N, E] to verify.
    window("recovery.replay-verify", Reach::Recovery { prior: Some("flush.completed") }, 1),
    window("recovery.replay-apply", Reach::Recovery { prior: None }, 3),
];

/// The window called `name`.
pub fn find_window(name: &str) -> Option<&'static Window> {
    WINDOWS.iter().find(|window| window.name == name)
}

/// The window that a person who typed `name` most likely meant: at most two edits away, or the same last part.
pub fn nearest_window(name: &str) -> Option<&'static str> {
    let last = name.rsplit('.').next().unwrap_or(name);
    let by_edits = WINDOWS.iter().map(|window| (edits(name, window.name), window.name)).min();
    match by_edits {
        Some((distance, found)) if distance <= 2 => Some(found),
        _ => WINDOWS.iter().map(|window| window.name).find(|known| known.rsplit('.').next() == Some(last)),
    }
}

/// Levenshtein's distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// A storage engine of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Rocksdb,
}

impl Engine {
    pub const ALL: &'static [Engine] = &[Engine::Rocksdb];

    pub fn name(self) -> &'static str {
        match self {
            Engine::Rocksdb => "rocksdb",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|engine| engine.name() == name)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where one member listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub peer: SocketAddr,
    pub client: SocketAddr,
    pub control: SocketAddr,
}

/// The binaries and options that are the same for every member and every life.
#[derive(Debug, Clone)]
pub struct Target {
    pub node: PathBuf,
    /// Reads dead directories; ideally another build than `node`, above all when a bug is planted in that one.
    pub inspector: PathBuf,
    pub engine: Engine,
    pub memtable_bytes: u64,
    pub keep_entries: u64,
    pub snapshot_every_entries: u64,
    pub sabotage: Option<String>,
}

impl Target {
    /// The arguments that start member `id` of a cluster listening at `members` (ids and addresses, ascending),
    /// with the windows of `arm` armed from the first instruction on.
    pub fn serve_args(
        &self,
        id: u64,
        data_dir: &Path,
        members: &[(u64, Addresses)],
        arm: Option<(&str, u64)>,
    ) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["serve".into(), "--id".into(), id.to_string().into(), "--data-dir".into()];
        args.push(data_dir.into());
        let mut option = |name: &str, value: String| args.extend([OsString::from(name), value.into()]);
        option("--backend", self.engine.name().to_owned());
        for (member, at) in members {
            option("--member", format!("{member}=n{member}@{}/{}", at.peer, at.client));
            if *member == id {
                option("--control", at.control.to_string());
            }
        }
        option("--memtable-bytes", self.memtable_bytes.to_string());
        option("--keep-entries", self.keep_entries.to_string());
        option("--snapshot-every-entries", self.snapshot_every_entries.to_string());
        option("--log-format", "json".to_owned());
        if let Some((window, hit)) = arm {
            option("--arm", format!("{window}={hit}"));
        }
        if let Some(bug) = &self.sabotage {
            option("--sabotage", bug.clone());
        }
        args
    }

    /// The arguments that make the inspector read the dead directory `data_dir`.
    pub fn inspect_args(data_dir: &Path) -> Vec<OsString> {
        vec!["inspect".into(), "--json".into(), data_dir.into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_names_are_unique_and_priors_exist() {
        for (i, window) in WINDOWS.iter().enumerate() {
            assert!(WINDOWS[i + 1..].iter().all(|other| other.name != window.name), "{}", window.name);
            assert!(window.hit_max > 0);
            if let Reach::Recovery { prior: Some(prior) } = window.reach {
                assert_eq!(find_window(prior).map(|window| window.reach), Some(Reach::Load));
            }
        }
    }

    #[test]
    fn a_typo_finds_its_window() {
        assert_eq!(nearest_window("flush.complete"), Some("flush.completed"));
        assert_eq!(nearest_window("flush.renamed"), Some("index.renamed"));
        assert_eq!(nearest_window("elsewhere"), None);
    }

    #[test]
    fn every_member_is_named_and_control_is_the_own_one() {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let members: Vec<_> = (1..=3)
            .map(|id| {
                (id, Addresses { peer: at(10 + id as u16), client: at(20 + id as u16), control: at(30 + id as u16) })
            })
            .collect();
        let target = Target {
            node: "node".into(),
            inspector: "node".into(),
            engine: Engine::Rocksdb,
            memtable_bytes: 65_536,
            keep_entries: 500,
            snapshot_every_entries: 1_000,
            sabotage: None,
        };
        let args = target.serve_args(2, Path::new("/d/n2"), &members, Some(("recovery.replay-apply", 3)));
        let text: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
        assert_eq!(
            text.join(" "),
            "serve --id 2 --data-dir /d/n2 --backend rocksdb --member 1=n1@127.0.0.1:11/127.0.0.1:21 \
             --member 2=n2@127.0.0.1:12/127.0.0.1:22 --control 127.0.0.1:32 --member 3=n3@127.0.0.1:13/127.0.0.1:23 \
             --memtable-bytes 65536 --keep-entries 500 --snapshot-every-entries 1000 --log-format json \
             --arm recovery.replay-apply=3"
        );
    }
}
