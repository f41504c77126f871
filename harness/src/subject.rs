//! The target: the system under test. Everything that differs from one system to the next is behind
//! this seam.
//!
//! | question | `node-under-test` ([`node`]) | any server that speaks etcd's API ([`server`]) |
//! | --- | --- | --- |
//! | how is it started? | its own flags | a template with name, addresses, data directory, peers; etcd's is built in |
//! | when is it up? | it says so on its standard output | it answers a Status request |
//! | where does it stand? | control endpoint | Status |
//! | how is it fenced? | by a command in its raft log | at a revision: HashKV, and our own digest of a serializable range |
//! | where can it die? | at windows, applied indexes, times; under the fault filesystem at windows of its files | at applied indexes and times; under the fault filesystem at windows of its files |
//! | what is left of it? | a directory that an inspector reads | a directory with unknown content |
//!
//! No code outside asks for the kind of target; a target itself says what it cannot do
//! ([`Target::inspector`], [`Fences`], [`Window::exists_on`]).
//!
//! The harness never links the node, so the window table here is its own; a node that does not know
//! a window refuses to arm it, which is a harness error and never a silent skip.

mod etcd;
pub mod events;
mod file_operations;
mod file_windows;
mod ids;
pub mod node;
pub mod server;
mod window;

pub use etcd::{EtcdOptions, spec as etcd_spec};
pub use file_operations::{FILE_OPERATIONS, FileOperation, Life as FileLife};
pub use ids::Ids;
pub use node::Node;
pub use server::{Server, ServerSpec};
pub(crate) use window::edits;
pub use window::{
    BroughtBy, FILE_WINDOWS, LoadShape, Reach, WINDOWS, Window, all_windows, find_window, nearest_window,
    node_file_windows,
};

use ninelives_evidence::member::Engine;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

/// Where one member listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub peer: SocketAddr,
    pub client: SocketAddr,
    pub control: SocketAddr,
}

/// The way in which a member comes to its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// It founds the cluster together with these (ids and addresses, ascending), itself among them.
    Founder(&'a [(u64, Addresses)]),
    /// It founds another cluster of members with these ids and addresses, under other names: a
    /// cluster's id is made of ids, names and peer addresses.
    Stranger(&'a [(u64, Addresses)]),
    /// It was added to a running cluster, and learns of the other members from the log.
    Joined,
}

/// One life of one member: the part of its command line beyond the [`Target`].
#[derive(Debug, Clone, Copy)]
pub struct Life<'a> {
    pub id: u64,
    pub engine: Engine,
    pub at: Addresses,
    pub data_dir: &'a Path,
    pub origin: Origin<'a>,
    /// A window that is armed from the first instruction on, and its hit.
    pub arm: Option<(&'a str, u64)>,
    /// Detours: it connects to the second address, where the membership names the first for another
    /// member.
    pub detours: &'a [(SocketAddr, SocketAddr)],
}

/// The way in which replicas are brought to one comparable state while writes go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fences {
    /// By a raft command: each replica hashes its state at exactly the command's index.
    ByCommand,
    /// By a revision: all replicas are asked for the state at it.
    AtRevision,
}

/// The program under test: binaries and options that are the same for every member and every life.
#[derive(Debug, Clone)]
pub enum Target {
    Node(Node),
    Server(Server),
}

impl Target {
    /// The program that members run.
    pub fn binary(&self) -> &Path {
        match self {
            Target::Node(node) => &node.node,
            Target::Server(server) => &server.binary,
        }
    }

    /// The program that reads dead directories; `None` if they cannot be read.
    pub fn inspector(&self) -> Option<&Path> {
        match self {
            Target::Node(node) => Some(&node.inspector),
            Target::Server(_) => None,
        }
    }

    /// The bug that is planted in every member.
    pub fn sabotage(&self) -> Option<&str> {
        match self {
            Target::Node(node) => node.sabotage.as_deref(),
            Target::Server(_) => None,
        }
    }

    /// Whether members keep their data under the fault filesystem.
    pub fn fault_filesystem(&self) -> bool {
        match self {
            Target::Node(_) => false,
            Target::Server(server) => server.spec.fault_filesystem,
        }
    }

    /// Whether the rows behind its HashKV are etcd's. The version that a server reports does not
    /// show that, because other servers report etcd's versions as well.
    pub fn is_etcd(&self) -> bool {
        match self {
            Target::Node(_) => false,
            Target::Server(server) => server.spec.is_etcd,
        }
    }

    pub fn fences(&self) -> Fences {
        match self {
            Target::Node(_) => Fences::ByCommand,
            Target::Server(_) => Fences::AtRevision,
        }
    }

    /// The arguments that start `life`.
    pub fn serve_args(&self, life: &Life<'_>) -> Vec<OsString> {
        match self {
            Target::Node(node) => node.serve_args(life),
            Target::Server(server) => server.serve_args(life),
        }
    }

    /// The arguments that make the program recover as `life` would, alone, say what it found, and
    /// end; `None`: it cannot.
    pub fn recover_args(&self, life: &Life<'_>) -> Option<Vec<OsString>> {
        match self {
            Target::Node(node) => Some(node.recover_args(life)),
            Target::Server(_) => None,
        }
    }

    /// The arguments that change the engine of the dead directory `data_dir`; `None`: its members
    /// cannot.
    pub fn migrate_args(&self, data_dir: &Path, to: Engine, arm: Option<(&str, u64)>) -> Option<Vec<OsString>> {
        match self {
            Target::Node(node) => Some(node.migrate_args(data_dir, to, arm)),
            Target::Server(_) => None,
        }
    }

    /// The arguments that make a member's data directory out of a saved snapshot; `None`: nothing
    /// here can.
    pub fn restore_args(
        &self,
        file: &Path,
        data_dir: &Path,
        into: Engine,
        arm: Option<(&str, u64)>,
    ) -> Option<Vec<OsString>> {
        match self {
            Target::Node(node) => Some(node.restore_args(file, data_dir, into, arm)),
            Target::Server(_) => None,
        }
    }

    /// The checks that this target does not allow, and why, one per line of the report. `version`:
    /// the output of its binary.
    pub fn unchecked(&self, version: Option<&str>) -> Vec<String> {
        match self {
            Target::Node(_) => Vec::new(),
            Target::Server(server) => server.unchecked(version),
        }
    }
}
