//! The `[cluster]` table: the number of members, and the engine with which each of them starts.

use super::raw::Check;
use super::{ClusterSpec, Refusal, TargetSpec};
use ninelives_evidence::limits;
use ninelives_evidence::member::{Engine, Slot};
use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCluster {
    members: Spanned<u32>,
    /// A name, or a list of names. This key and the following ones belong to the node; other
    /// targets do not have them.
    backend: Option<Spanned<toml::Value>>,
    memtable_bytes: Option<Spanned<u64>>,
    keep_entries: Option<Spanned<u64>>,
    snapshot_every_entries: Option<Spanned<u64>>,
    /// Keys of any target.
    nofile: Option<Spanned<u64>>,
    #[serde(default)]
    full_logs: Vec<Spanned<u64>>,
}

impl Check<'_> {
    /// `upgrades`: members change their engine, so that each may become rocksdb, whichever engine
    /// it starts with.
    pub(super) fn cluster(
        &self,
        raw: &RawCluster,
        target: &TargetSpec,
        upgrades: bool,
    ) -> Result<ClusterSpec, Refusal> {
        let members = *raw.members.get_ref();
        if !limits::MEMBERS.contains(&members) {
            let known = limits::MEMBERS.map(|n| n.to_string()).join(", ");
            return Err(self
                .refuse(&raw.members, format!("`cluster.members`: expected one of {known}, found {members}"))
                .hint("an even number of members survives no more failures than one member less"));
        }
        match target {
            TargetSpec::Node => self.nodes(raw, members, upgrades),
            TargetSpec::Server(server) => self.servers(raw, members, &server.name),
        }
    }

    fn nodes(&self, raw: &RawCluster, members: u32, upgrades: bool) -> Result<ClusterSpec, Refusal> {
        let backend = self.needed(raw, "backend", raw.backend.as_ref())?;
        let engines = self.engines(backend, members)?;
        let rocksdb = upgrades || engines.contains(&Engine::Rocksdb);
        let entries = |key: &str, value: Option<&Spanned<u64>>| {
            self.within(&format!("cluster.{key}"), self.needed(raw, key, value)?, 1..=1_000_000)
        };
        Ok(ClusterSpec {
            members,
            memtable_bytes: self.memtable_bytes(raw, backend, rocksdb)?,
            engines,
            keep_entries: entries("keep_entries", raw.keep_entries.as_ref())?,
            snapshot_every_entries: entries("snapshot_every_entries", raw.snapshot_every_entries.as_ref())?,
            nofile: self.nofile(raw)?,
            full_logs: self.full_logs(raw)?,
        })
    }

    fn servers(&self, raw: &RawCluster, members: u32, name: &str) -> Result<ClusterSpec, Refusal> {
        let given = [
            ("backend", raw.backend.as_ref().map(Spanned::span)),
            ("memtable_bytes", raw.memtable_bytes.as_ref().map(Spanned::span)),
            ("keep_entries", raw.keep_entries.as_ref().map(Spanned::span)),
            ("snapshot_every_entries", raw.snapshot_every_entries.as_ref().map(Spanned::span)),
        ];
        if let Some((key, span)) = given.into_iter().find_map(|(key, span)| Some((key, span?))) {
            let message = format!(
                "`cluster.{key}` is the node's, and the target is {name}: expected `cluster.members` alone, and {name}'s own options                  under `[target]`"
            );
            return Err(self.refuse_at(span, message));
        }
        let engines = vec![Engine::Opaque; members as usize];
        Ok(ClusterSpec {
            members,
            engines,
            memtable_bytes: None,
            keep_entries: 0,
            snapshot_every_entries: 0,
            nofile: self.nofile(raw)?,
            full_logs: self.full_logs(raw)?,
        })
    }

    fn nofile(&self, raw: &RawCluster) -> Result<Option<u64>, Refusal> {
        let within = |limit| self.within("cluster.nofile", limit, limits::NOFILE_MIN..=limits::NOFILE_MAX);
        raw.nofile.as_ref().map(within).transpose()
    }

    fn full_logs(&self, raw: &RawCluster) -> Result<Vec<Slot>, Refusal> {
        let members = u64::from(*raw.members.get_ref());
        let slot = |slot| self.within("cluster.full_logs", slot, 1..=members).map(Slot);
        raw.full_logs.iter().map(slot).collect()
    }

    /// A key that the node needs.
    fn needed<'a, T>(
        &self,
        raw: &RawCluster,
        key: &str,
        value: Option<&'a Spanned<T>>,
    ) -> Result<&'a Spanned<T>, Refusal> {
        value.ok_or_else(|| {
            self.refuse(&raw.members, format!("`[cluster]`: expected `{key}`, found none"))
                .hint("a `[target]` table says what the members are if not the node that ships with the harness")
        })
    }

    fn engines(&self, raw: &Spanned<toml::Value>, members: u32) -> Result<Vec<Engine>, Refusal> {
        let known = Engine::ALL.iter().map(|engine| engine.name()).collect::<Vec<_>>().join(", ");
        let parse = |name: &toml::Value| {
            name.as_str().and_then(Engine::parse).ok_or_else(|| {
                // For a value that is not a string, its type is enough.
                let found = name.as_str().map_or_else(|| name.type_str().to_owned(), |name| format!("{name:?}"));
                self.refuse(raw, format!("`cluster.backend`: expected one of {known}, found {found}"))
            })
        };
        let Some(names) = raw.get_ref().as_array() else {
            return Ok(vec![parse(raw.get_ref())?; members as usize]);
        };
        if names.len() != members as usize {
            let message = format!(
                "`cluster.backend`: expected one name, or a list with one name for each of the {members} `cluster.members`, found a \
                 list of {}",
                names.len()
            );
            return Err(self.refuse(raw, message));
        }
        names.iter().map(parse).collect()
    }

    /// Required where a member may run rocksdb, refused where none can.
    fn memtable_bytes(
        &self,
        raw: &RawCluster,
        backend: &Spanned<toml::Value>,
        rocksdb: bool,
    ) -> Result<Option<u64>, Refusal> {
        let range = limits::MEMTABLE_BYTES_MIN..=limits::MEMTABLE_BYTES_MAX;
        match (&raw.memtable_bytes, rocksdb) {
            (Some(bytes), true) => Ok(Some(self.within("cluster.memtable_bytes", bytes, range)?)),
            (None, false) => Ok(None),
            (None, true) => Err(self.refuse(
                backend,
                "`cluster.memtable_bytes` is missing, and by `cluster.backend` or `[upgrade]` a member may run rocksdb: expected \
                 the size at which its memtables are flushed"
                    .to_owned(),
            )),
            (Some(bytes), false) => Err(self.refuse(
                bytes,
                "`cluster.memtable_bytes` is given, and by `cluster.backend` no member ever runs rocksdb: redb has no memtable; \
                 expected one without the other"
                    .to_owned(),
            )),
        }
    }
}
