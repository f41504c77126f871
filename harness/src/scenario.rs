//! The scenario: the task of a run, as a person wrote it.
//!
//! Loading either yields a [`Scenario`] that can be run as it stands, or a [`Refusal`] that names
//! file, line, the fields in question, the expected and the found value. Nothing is ever quietly
//! adjusted: a value that cannot be honoured is refused.

mod bounds;
mod cluster;
mod corruption;
mod crowd;
mod disk;
mod environment;
mod faults;
mod floors;
mod hostile;
mod known;
mod lasting;
mod load;
pub mod mix;
mod power;
mod quotas;
mod raw;
mod refusal;
mod restore;
mod strangers;
mod target;
mod upgrade;
mod windows;

pub use bounds::Bounds;
pub use disk::{AilmentKind, DiskSpec};
pub use environment::EnvironmentSpec;
pub use faults::{FaultKind, FaultMix, LinkKind};
pub use floors::Floors;
pub use lasting::Lasting;
pub use quotas::{Quota, whom_of};
pub use refusal::Refusal;
pub use restore::{RestoreKind, RestoreSpec, UnlikeKind};
pub use upgrade::{UpgradeSpec, WayKind};

use crate::subject::{Reach, ServerSpec, Window, all_windows};
use mix::Mix;
use ninelives_evidence::damage::{DamageKind, FileClass};
use ninelives_evidence::hex::hex;
use ninelives_evidence::member::{Engine, Slot};
use ninelives_evidence::power::Names;
use ninelives_evidence::signature::Signature;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// The members that a kill is for, without the rank that a plan adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhomKind {
    Follower,
    Leader,
    /// As many members as the cluster can lose and still serve, whatever their role.
    Minority,
    /// One member more than a minority.
    Majority,
    All,
}

impl WhomKind {
    pub const ALL: [WhomKind; 5] =
        [WhomKind::Follower, WhomKind::Leader, WhomKind::Minority, WhomKind::Majority, WhomKind::All];

    pub fn name(self) -> &'static str {
        match self {
            WhomKind::Follower => "follower",
            WhomKind::Leader => "leader",
            WhomKind::Minority => "minority",
            WhomKind::Majority => "majority",
            WhomKind::All => "all",
        }
    }

    /// Whether a member chosen so can be made to pass a window of this reach.
    pub fn reaches(self, reach: Reach) -> bool {
        match reach {
            Reach::Load | Reach::Defragmentation | Reach::Recovery | Reach::Start => true,
            Reach::Election | Reach::SnapshotReceiver | Reach::Reinstall | Reach::Join => self == WhomKind::Follower,
            Reach::LoadOfLeader | Reach::SnapshotSender => self == WhomKind::Leader,
            Reach::Migration | Reach::Restore | Reach::Founding => false,
        }
    }
}

/// The event that a kill waits for, without its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhenKind {
    Window,
    Applied,
    Time,
}

/// The program that the members run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetSpec {
    /// The node that ships with the harness.
    Node,
    Server(ServerSpec),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSpec {
    pub members: u32,
    /// The engine with which each slot starts, in the order of slots; one for each member.
    pub engines: Vec<Engine>,
    /// `None`: no member ever runs rocksdb.
    pub memtable_bytes: Option<u64>,
    /// Entries of the raft log that a purge leaves below N; 0, like the next one, where the node is
    /// not the target.
    pub keep_entries: u64,
    pub snapshot_every_entries: u64,
    /// Limit of open files of each member, soft and hard; `None`: the limits of the harness.
    pub nofile: Option<u64>,
    /// The slots whose members cannot write a diagnostic.
    pub full_logs: Vec<Slot>,
}

/// At each member, clients that hold something and never use it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CrowdSpec {
    /// Connections that never say a word.
    pub idle: u32,
    /// Connections that begin HTTP/2 and say no more.
    pub half_open: u32,
    /// Watches of everything whose events are never read.
    pub stalled_watches: u32,
    /// Snapshots that are never read.
    pub stalled_snapshots: u32,
}

/// At each member's peer port, programs that say what no member says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostileSpec {
    pub peers: u32,
}

/// Members of another cluster that come to the places of dead ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrangersSpec {
    /// Share of the kills that strangers follow.
    pub kills_percent: u32,
    /// Milliseconds that they stay, from and to.
    pub stay_ms: (u64, u64),
}

/// The damages of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorruptionSpec {
    /// Share of the kills of one member that damage follows.
    pub kills_percent: u32,
    pub classes: Vec<(FileClass, u32)>,
    pub kinds: Vec<(DamageKind, u32)>,
}

/// The power losses of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerSpec {
    pub names: Names,
    /// Share of the cuts that lose everything that was not synced.
    pub all_lost_percent: u32,
    /// Crash states of each cut's instant to try offline; 0: none.
    pub explore: u32,
}

impl CrowdSpec {
    /// The number of connections that it holds at one member.
    pub fn connections(&self) -> u32 {
        self.idle + self.half_open + self.stalled_watches + self.stalled_snapshots
    }
}

impl ClusterSpec {
    /// `redb`, or `redb, rocksdb, rocksdb` where they differ.
    fn backend(&self) -> String {
        match self.engines.split_first() {
            Some((first, rest)) if rest.iter().all(|engine| engine == first) => first.to_string(),
            _ => self.engines.iter().map(|engine| engine.name()).collect::<Vec<_>>().join(", "),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadSpec {
    /// The mix of steps.
    pub mix: &'static Mix,
    pub clients: u32,
    pub keys: u32,
    pub value_bytes_max: u32,
    pub op_timeout_ms: u64,
    /// Steps of the compacting client between two compactions.
    pub compact_every_ops: u32,
    /// Revisions that a compaction leaves, at least.
    pub compact_keep_revisions: u32,
    /// Further clients that hold leases of seconds.
    pub lease_holders: u32,
    /// Further leases of seconds, all kept alive on one stream.
    pub kept_leases: u32,
    pub lease_ttl_seconds: u32,
    /// Transactions of the dearest kind that are sent when the load has ended.
    pub dear_transactions: u32,
}

impl LoadSpec {
    /// Numbers that its clients have, from the first one on.
    pub fn numbers(&self) -> u32 {
        self.clients + self.lease_holders + self.kept_leases
    }

    pub fn has_short_leases(&self) -> bool {
        self.lease_holders + self.kept_leases > 0
    }
}

/// A scenario that can be run. Weight tables are in a fixed order, whatever the order in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// The stem of its file.
    pub name: String,
    pub path: PathBuf,
    /// The file's text, as it was read.
    pub text: String,
    pub cycles: u32,
    pub target: TargetSpec,
    pub cluster: ClusterSpec,
    pub load: LoadSpec,
    /// `None`: the only clients are the load and the watches.
    pub crowd: Option<CrowdSpec>,
    /// `None`: only members speak to the members' peer ports.
    pub hostile: Option<HostileSpec>,
    /// `None`: the places of dead members stay empty.
    pub strangers: Option<StrangersSpec>,
    /// `None`: no file of a dead member is damaged.
    pub corruption: Option<CorruptionSpec>,
    /// `None`: nothing that was written is ever lost.
    pub power: Option<PowerSpec>,
    /// `None`: no disk fails.
    pub disk: Option<DiskSpec>,
    pub whom: Vec<(WhomKind, u32)>,
    pub when: Vec<(WhenKind, u32)>,
    pub windows: Vec<(&'static Window, u32)>,
    pub faults: FaultMix,
    pub lasting: Lasting,
    pub quotas: Vec<Quota>,
    /// `None`: every member keeps its engine.
    pub upgrade: Option<UpgradeSpec>,
    pub environment: EnvironmentSpec,
    /// `None`: the cluster is never restored.
    pub restore: Option<RestoreSpec>,
    pub bounds: Bounds,
    pub floors: Floors,
    /// Findings that are known, in the order in which they are tried.
    pub known: Vec<Signature>,
}

impl Scenario {
    /// Reads and checks the scenario at `path`.
    pub fn load(path: &Path) -> Result<Self, Refusal> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Refusal::whole(
                path,
                format!("expected a readable scenario file, found: {error}; scenarios/smoke.toml is an example"),
            )
        })?;
        Self::parse(path, text)
    }

    /// Checks `text` as the scenario at `path`.
    pub fn parse(path: &Path, text: String) -> Result<Self, Refusal> {
        raw::parse(path, text)
    }

    /// A short name for the program of the members: the node's engines, or the server's name.
    pub fn backend(&self) -> String {
        match &self.target {
            TargetSpec::Node => self.cluster.backend(),
            TargetSpec::Server(server) => server.name.clone(),
        }
    }

    /// The windows that some member can pass with the engine with which it starts.
    pub fn known_windows(&self) -> impl Iterator<Item = &'static Window> {
        // Only the fault filesystem reports on a server's files.
        let hidden = matches!(&self.target, TargetSpec::Server(server) if !server.fault_filesystem);
        // Those of the node's files are turned on by naming one: a sweep of another scenario stays
        // what it was.
        let files = self.windows.iter().any(|(window, _)| window.is_of_the_nodes_files());
        let exists = |window: &&Window| self.cluster.engines.iter().any(|engine| window.exists_on(*engine));
        let named = move |window: &&Window| files || !window.is_of_the_nodes_files();
        all_windows().filter(move |_| !hidden).filter(named).filter(exists)
    }

    /// SHA-256 of the text, lower-case hex: two runs of equal digest had the same task.
    pub fn digest(&self) -> String {
        hex(&Sha256::digest(self.text.as_bytes()))
    }
}

#[cfg(test)]
mod tests;
