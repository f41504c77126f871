//! The `[cluster]` table: how many members, and which engine each of them starts with.

use super::raw::Check;
use super::{ClusterSpec, Refusal};
use crate::limits;
use crate::target::Engine;
use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCluster {
    members: Spanned<u32>,
    /// A name, or a list of names.
    backend: Spanned<toml::Value>,
    memtable_bytes: Option<Spanned<u64>>,
    keep_entries: Spanned<u64>,
    snapshot_every_entries: Spanned<u64>,
}

impl Check<'_> {
    /// `upgrades`: members change their engine, so that each may become rocksdb whatever it starts with.
    pub(super) fn cluster(&self, raw: &RawCluster, upgrades: bool) -> Result<ClusterSpec, Refusal> {
        let members = *raw.members.get_ref();
        if !limits::MEMBERS.contains(&members) {
            let known = limits::MEMBERS.map(|n| n.to_string()).join(", ");
            return Err(self
                .refuse(&raw.members, format!("`cluster.members`: expected one of {known}, found {members}"))
                .hint("an even number of members survives no more failures than one member less"));
        }
        let engines = self.engines(&raw.backend, members)?;
        let rocksdb = upgrades || engines.contains(&Engine::Rocksdb);
        Ok(ClusterSpec {
            members,
            memtable_bytes: self.memtable_bytes(raw, rocksdb)?,
            engines,
            keep_entries: self.within("cluster.keep_entries", &raw.keep_entries, 1..=1_000_000)?,
            snapshot_every_entries: self.within(
                "cluster.snapshot_every_entries",
                &raw.snapshot_every_entries,
                1..=1_000_000,
            )?,
        })
    }

    fn engines(&self, raw: &Spanned<toml::Value>, members: u32) -> Result<Vec<Engine>, Refusal> {
        let known = Engine::ALL.iter().map(|engine| engine.name()).collect::<Vec<_>>().join(", ");
        let parse = |name: &toml::Value| {
            name.as_str().and_then(Engine::parse).ok_or_else(|| {
                // The type says enough of what is no string.
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

    /// What is always needed where a member may run rocksdb, and says nothing where none can.
    fn memtable_bytes(&self, raw: &RawCluster, rocksdb: bool) -> Result<Option<u64>, Refusal> {
        let range = limits::MEMTABLE_BYTES_MIN..=limits::MEMTABLE_BYTES_MAX;
        match (&raw.memtable_bytes, rocksdb) {
            (Some(bytes), true) => Ok(Some(self.within("cluster.memtable_bytes", bytes, range)?)),
            (None, false) => Ok(None),
            (None, true) => Err(self.refuse(
                &raw.backend,
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
