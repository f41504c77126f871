//! The `[load]` table: the operations of clients, and their pressure.

use super::mix::{self, Mix};
use super::raw::Check;
use super::{LoadSpec, Refusal};
use ninelives_evidence::limits;
use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLoad {
    mix: Option<Spanned<String>>,
    clients: Spanned<u32>,
    keys: Spanned<u32>,
    value_bytes_max: Spanned<u32>,
    op_timeout_ms: Spanned<u64>,
    compact_every_ops: Spanned<u32>,
    compact_keep_revisions: Option<Spanned<u32>>,
    lease_holders: Option<Spanned<u32>>,
    kept_leases: Option<Spanned<u32>>,
    lease_ttl_seconds: Option<Spanned<u32>>,
    pub(super) dear_transactions: Option<Spanned<u32>>,
}

impl Check<'_> {
    pub(super) fn load(&self, raw: &RawLoad, members: u32) -> Result<LoadSpec, Refusal> {
        let clients = self.within("load.clients", &raw.clients, 1..=limits::CLIENTS_MAX)?;
        let (lease_holders, kept_leases, lease_ttl_seconds) = self.leases(raw)?;
        // A holder has a second connection, for keep-alives.
        let all = clients + 2 * lease_holders;
        if all * members > limits::CONNECTIONS_MAX {
            let message = format!(
                "`load.clients`, and `load.lease_holders` twice, times `cluster.members`: expected at most {} connections, found \
                 {all} times {members}",
                limits::CONNECTIONS_MAX
            );
            return Err(self
                .refuse(&raw.clients, message)
                .hint("each client has a connection to each member, and a process 1,024 file descriptors"));
        }
        Ok(LoadSpec {
            mix: self.mix(raw.mix.as_ref())?,
            clients,
            keys: self.within("load.keys", &raw.keys, 1..=limits::KEYS_MAX)?,
            value_bytes_max: self.within(
                "load.value_bytes_max",
                &raw.value_bytes_max,
                limits::VALUE_BYTES_MIN..=limits::VALUE_BYTES_MAX,
            )?,
            op_timeout_ms: self.within("load.op_timeout_ms", &raw.op_timeout_ms, 10..=600_000)?,
            compact_every_ops: self.within("load.compact_every_ops", &raw.compact_every_ops, 1..=1_000_000)?,
            compact_keep_revisions: match &raw.compact_keep_revisions {
                Some(value) => {
                    self.within("load.compact_keep_revisions", value, 1..=limits::COMPACT_KEEP_REVISIONS_MAX)?
                }
                None => limits::COMPACT_KEEP_REVISIONS,
            },
            lease_holders,
            kept_leases,
            lease_ttl_seconds,
            dear_transactions: match &raw.dear_transactions {
                Some(value) => self.within("load.dear_transactions", value, 1..=limits::DEAR_TRANSACTIONS_MAX)?,
                None => 0,
            },
        })
    }

    /// Holders, leases kept on one stream, and the TTL of all of them.
    fn leases(&self, raw: &RawLoad) -> Result<(u32, u32, u32), Refusal> {
        let number = |key: &str, value: &Option<Spanned<u32>>, max| match value {
            Some(value) => self.within(key, value, 1..=max),
            None => Ok(0),
        };
        let holders = number("load.lease_holders", &raw.lease_holders, limits::LEASE_HOLDERS_MAX)?;
        let kept = number("load.kept_leases", &raw.kept_leases, limits::KEPT_LEASES_MAX)?;
        let ttl_seconds = match &raw.lease_ttl_seconds {
            Some(ttl) if holders + kept == 0 => {
                let message = "`load.lease_ttl_seconds`: expected `load.lease_holders` or `load.kept_leases` beside it, \
                               found none";
                return Err(self.refuse(ttl, message.to_owned()));
            }
            Some(ttl) => self.within("load.lease_ttl_seconds", ttl, 1..=limits::LEASE_TTL_SECONDS_MAX)?,
            None => limits::LEASE_TTL_SECONDS,
        };
        Ok((holders, kept, ttl_seconds))
    }

    fn mix(&self, raw: Option<&Spanned<String>>) -> Result<&'static Mix, Refusal> {
        let Some(name) = raw else { return Ok(&mix::MIXED) };
        mix::find(name.get_ref()).ok_or_else(|| {
            let known = mix::MIXES.map(|mix| format!("{:?} ({})", mix.name, mix.doc)).join(", ");
            let refusal =
                self.refuse(name, format!("`load.mix`: unknown mix {:?}; expected one of {known}", name.get_ref()));
            match mix::nearest(name.get_ref()) {
                Some(near) => refusal.hint(format!("did you mean {near:?}?")),
                None => refusal,
            }
        })
    }
}
