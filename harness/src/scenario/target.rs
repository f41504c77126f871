//! The `[target]` table: the program of the members. Without it they run the node that ships with
//! the harness.
//!
//! ```toml
//! [target.etcd]                     # etcd itself, 3.4 to 3.6; every key is optional
//! binary = "etcd"                   # a path, or a name on PATH; `--node` overrides it
//! heartbeat_ms = 100
//! election_ms = 1000
//! snapshot_every_entries = 10000
//! flags = []
//! fault_filesystem = false          # true: data directories are FUSE mounts, so that it can be killed at windows of its files
//!
//! [target.command]                  # any other server that speaks etcd's v3 API
//! start = ["my-server", "--name", "{name}", "--data", "{data_dir}", "--listen", "{client}", "--peers", "{peers}"]
//! peer = "{name}=http://{peer}"     # one member in {peers}
//! ```
//!
//! Only the API of such a server is known: it has no windows (except those of etcd's files, under
//! the fault filesystem), no engine, and its peer links cannot be disturbed. A scenario that asks
//! for one of these is refused.

use super::raw::{Check, Raw};
use super::{Refusal, TargetSpec};
use crate::subject::{self, EtcdOptions, FILE_WINDOWS, ServerSpec, etcd_spec};
use ninelives_evidence::member::Engine;
use serde::Deserialize;
use std::path::Path;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTarget {
    etcd: Option<RawEtcd>,
    command: Option<Spanned<RawCommand>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEtcd {
    binary: Option<String>,
    heartbeat_ms: Option<Spanned<u64>>,
    election_ms: Option<Spanned<u64>>,
    snapshot_every_entries: Option<Spanned<u64>>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    fault_filesystem: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCommand {
    start: Vec<String>,
    peer: Option<String>,
}

/// etcd's own defaults.
const HEARTBEAT_MS: u64 = 100;
const ELECTION_MS: u64 = 1_000;
/// etcd 3.4 and 3.5 replay up to 100,000 entries after a kill: minutes of a run, for nothing.
const SNAPSHOT_EVERY_ENTRIES: u64 = 10_000;

impl Check<'_> {
    pub(super) fn target(&self, raw: Option<&Spanned<RawTarget>>) -> Result<TargetSpec, Refusal> {
        let Some(raw) = raw else { return Ok(TargetSpec::Node) };
        match (&raw.get_ref().etcd, &raw.get_ref().command) {
            (Some(etcd), None) => self.etcd(etcd),
            (None, Some(command)) => self.command(command),
            (etcd, _) => {
                let found = if etcd.is_some() { "both" } else { "neither" };
                Err(self.refuse(raw, format!("expected one of `[target.etcd]` and `[target.command]`, found {found}")))
            }
        }
    }

    fn etcd(&self, raw: &RawEtcd) -> Result<TargetSpec, Refusal> {
        let number = |field: &str, value: &Option<Spanned<u64>>, default, range| match value {
            Some(value) => self.within(field, value, range),
            None => Ok(default),
        };
        let heartbeat_ms = number("target.etcd.heartbeat_ms", &raw.heartbeat_ms, HEARTBEAT_MS, 1..=10_000)?;
        let election_ms = number("target.etcd.election_ms", &raw.election_ms, ELECTION_MS, 5..=50_000)?;
        if let (true, Some(at)) =
            (election_ms < 5 * heartbeat_ms, raw.election_ms.as_ref().or(raw.heartbeat_ms.as_ref()))
        {
            let message = format!(
                "`target.etcd.election_ms`: expected five times `target.etcd.heartbeat_ms` at least, or etcd does not start; found \
                 {election_ms} and {heartbeat_ms}"
            );
            return Err(self.refuse(at, message));
        }
        let snapshot_every_entries = number(
            "target.etcd.snapshot_every_entries",
            &raw.snapshot_every_entries,
            SNAPSHOT_EVERY_ENTRIES,
            10..=10_000_000,
        )?;
        let program = raw.binary.clone().unwrap_or_else(|| "etcd".to_owned());
        let flags = raw.flags.clone();
        Ok(TargetSpec::Server(etcd_spec(EtcdOptions {
            program,
            snapshot_every_entries,
            heartbeat_ms,
            election_ms,
            flags,
            fault_filesystem: raw.fault_filesystem,
        })))
    }

    fn command(&self, raw: &Spanned<RawCommand>) -> Result<TargetSpec, Refusal> {
        let RawCommand { start, peer } = raw.get_ref();
        let Some((program, args)) = start.split_first() else {
            return Err(self.refuse(
                raw,
                "`target.command.start`: expected a program and its arguments, found nothing".to_owned(),
            ));
        };
        let name = Path::new(program).file_name().map_or(program.clone(), |name| name.to_string_lossy().into_owned());
        let spec = ServerSpec {
            name,
            program: program.clone(),
            args: args.to_vec(),
            peer_item: peer.clone().unwrap_or_else(|| "{name}=http://{peer}".to_owned()),
            is_etcd: false,
            fault_filesystem: false,
            snapshot_every_entries: 0,
        };
        match spec.fault() {
            Some(why) => Err(self.refuse(raw, format!("`target.command`: {why}"))),
            None => Ok(TargetSpec::Server(spec)),
        }
    }

    /// Refuses settings that a server does not have if it is known by its API only.
    pub(super) fn fits_target(&self, raw: &Raw, target: &TargetSpec) -> Result<(), Refusal> {
        let TargetSpec::Server(server) = target else { return Ok(()) };
        let name = &server.name;
        let refuse = |at, what: &str, instead: &str| {
            let message = format!("{what}, but only etcd's API is known of {name}: expected {instead}");
            Err(self.refuse_at(at, message))
        };
        if let Some((window, instead)) = foreign_window(raw, server) {
            return refuse(window.span(), &format!("`windows.\"{}\"` is given", window.get_ref()), &instead);
        }
        if raw.when.get_ref().window > 0 && !server.fault_filesystem {
            let key = if server.is_etcd { ", or `target.etcd.fault_filesystem = true`" } else { "" };
            let instead = format!("weights for `when.applied` and `when.time` alone{key}");
            return refuse(raw.when.span(), "`when.window` is above 0", &instead);
        }
        if let Some((window, _)) = raw.again.first_key_value() {
            return refuse(window.span(), "`[again]` is given", "no such table, because it has no windows of recovery");
        }
        if let Some(faults) = raw.faults.as_ref().filter(|faults| faults.get_ref().network > 0) {
            let instead = "it at 0, because members cannot be told to take a detour";
            return refuse(faults.span(), "`faults.network` is above 0", instead);
        }
        if let Some(dear) = &raw.load.dear_transactions {
            let instead = "no such key, because an etcd evaluates a transaction's reads on every member";
            return refuse(dear.span(), "`load.dear_transactions` is given", instead);
        }
        if let Some(hostile) = &raw.hostile {
            return refuse(
                hostile.span(),
                "`[hostile]` is given",
                "no such table, because they speak the node's own protocol",
            );
        }
        if let Some(strangers) = &raw.strangers {
            let instead = "no such table, because its members cannot be told from another cluster's";
            return refuse(strangers.span(), "`[strangers]` is given", instead);
        }
        if let Some(explore) = raw.power.as_ref().and_then(|power| power.get_ref().explore.as_ref()) {
            let instead = "no such key, because its directories cannot be read, nor its members started alone";
            return refuse(explore.span(), "`power.explore` is given", instead);
        }
        if let Some(restore) = &raw.restore {
            return refuse(
                restore.span(),
                "`[restore]` is given",
                "no such table, because only the node restores snapshots",
            );
        }
        match &raw.upgrade {
            Some(upgrade) => {
                refuse(upgrade.span(), "`[upgrade]` is given", "no such table, because its engine is unknown")
            }
            None => Ok(()),
        }
    }
}

/// A window that members of `server` do not pass, and what is expected instead of it.
fn foreign_window<'a>(raw: &'a Raw, server: &ServerSpec) -> Option<(&'a Spanned<String>, String)> {
    let window = raw.windows.keys().find(|window| {
        !server.fault_filesystem
            || subject::find_window(window.get_ref()).is_some_and(|known| !known.exists_on(Engine::Opaque))
    })?;
    let of_files = FILE_WINDOWS.iter().map(|window| window.name).collect::<Vec<_>>().join(", ");
    let instead = if server.fault_filesystem {
        format!("windows of its files: {of_files}")
    } else if server.is_etcd {
        format!("`target.etcd.fault_filesystem = true` and windows of its files ({of_files}), or no such table")
    } else {
        "no such table, because it has no windows".to_owned()
    };
    Some((window, instead))
}
