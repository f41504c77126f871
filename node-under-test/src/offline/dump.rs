//! `dump`: every row of a stopped member, as a line of JSON each.

use super::Stopped;
use crate::cli::Dump;
use crate::output;
use crate::state::mvcc::row::{self, Kind, RowKey};
use crate::state::rows::for_each;
use crate::state::{Error, Result};
use anyhow::Context;
use node_base::backend::Bucket;
use node_proto::command::{LeaseRecord, MemberRecord};
use prost::Message;
use serde_json::{Value, json};
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

/// # Errors
/// The directory is not a stopped member's; a row that this program cannot have written; standard
/// output is closed.
pub fn dump(options: &Dump) -> anyhow::Result<ExitCode> {
    let view = Stopped::open(&options.at.data_dir)?.view()?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut broken = None;
    for bucket in Bucket::ALL {
        if options.bucket.is_some_and(|only| only.bucket() != bucket) {
            continue;
        }
        for_each(&*view, bucket, &[], None, |key, value| {
            let line = describe(bucket, key, value)?;
            if broken.is_none() {
                broken = writeln!(out, "{line}").err();
            }
            Ok(())
        })?;
    }
    broken.map_or_else(|| out.flush(), Err).context(output::FAILED)?;
    Ok(ExitCode::SUCCESS)
}

/// Bytes as text; bytes that are not text are escaped as in a Rust string.
fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn describe(bucket: Bucket, key: &[u8], value: &[u8]) -> Result<Value> {
    let corrupt = |what: &str, error: prost::DecodeError| Error::Corrupt(format!("{what} row {key:02x?}: {error}"));
    Ok(match bucket {
        Bucket::Key => {
            let at = RowKey::decode(key)?;
            let kv = row::decode_value(at, value)?;
            let revision = format!("{}.{}", at.revision.main, at.revision.sub);
            let key = text(&kv.key);
            match at.kind {
                Kind::Tombstone => json!({ "bucket": "key", "revision": revision, "kind": "tombstone", "key": key }),
                Kind::Put => json!({
                    "bucket": "key", "revision": revision, "kind": "put", "key": key, "value": text(&kv.value),
                    "create_revision": kv.create_revision, "version": kv.version, "lease": kv.lease,
                }),
            }
        }
        Bucket::Lease => {
            let lease = LeaseRecord::decode(value).map_err(|error| corrupt("lease", error))?;
            json!({ "bucket": "lease", "id": lease.id, "granted_ttl_seconds": lease.granted_ttl_seconds })
        }
        Bucket::Member => {
            let member = MemberRecord::decode(value).map_err(|error| corrupt("member", error))?;
            json!({
                "bucket": "member", "id": member.id, "name": member.name, "peer_addr": member.peer_addr,
                "client_addr": member.client_addr, "is_learner": member.is_learner,
            })
        }
        Bucket::Meta => json!({ "bucket": "meta", "key": text(key), "value": text(value) }),
        Bucket::Auth => json!({ "bucket": "auth", "key": text(key), "value": text(value) }),
    })
}
