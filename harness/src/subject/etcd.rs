//! etcd itself, versions 3.4 to 3.6: its command line, and facts about it beyond its API.

use super::ServerSpec;
use ninelives_oracle::model::predicts_hash_kv;

/// Options that a scenario may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdOptions {
    pub program: String,
    /// Applied entries between two snapshots, after which the raft log is cut: it bounds a
    /// restart's replay.
    pub snapshot_every_entries: u64,
    pub heartbeat_ms: u64,
    /// etcd wants it to be five times the heartbeat, at least.
    pub election_ms: u64,
    /// Further flags, as they are.
    pub flags: Vec<String>,
    /// See [`ServerSpec`].
    pub fault_filesystem: bool,
}

/// Large enough for any load that a scenario can make, and the largest that etcd recommends.
const QUOTA_BYTES: u64 = 8 << 30;

/// The versions that the flags and the hash were written for.
const KNOWN: [&str; 3] = ["3.4.", "3.5.", "3.6."];

/// The way in which etcd is started.
pub fn spec(options: EtcdOptions) -> ServerSpec {
    let EtcdOptions { program, snapshot_every_entries, heartbeat_ms, election_ms, flags, fault_filesystem } = options;
    let own = [
        ("--name", "{name}".to_owned()),
        ("--data-dir", "{data_dir}".to_owned()),
        ("--listen-peer-urls", "http://{peer}".to_owned()),
        ("--initial-advertise-peer-urls", "http://{peer}".to_owned()),
        ("--listen-client-urls", "http://{client}".to_owned()),
        ("--advertise-client-urls", "http://{client}".to_owned()),
        ("--initial-cluster", "{peers}".to_owned()),
        ("--initial-cluster-state", "new".to_owned()),
        ("--snapshot-count", snapshot_every_entries.to_string()),
        ("--heartbeat-interval", heartbeat_ms.to_string()),
        ("--election-timeout", election_ms.to_string()),
        ("--quota-backend-bytes", QUOTA_BYTES.to_string()),
    ];
    let own = own.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    ServerSpec {
        name: "etcd".to_owned(),
        program,
        args: own.chain(flags).collect(),
        peer_item: "{name}=http://{peer}".to_owned(),
        is_etcd: true,
        fault_filesystem,
        snapshot_every_entries,
    }
}

/// The checks that are not possible with this version, by the output of `etcd --version`.
pub(super) fn doubts(version: Option<&str>) -> Vec<String> {
    let number = version.and_then(|text| text.lines().next()?.strip_prefix("etcd Version: ")).unwrap_or("unknown");
    let mut doubts = Vec::new();
    if !KNOWN.iter().any(|series| number.starts_with(series)) {
        doubts.push(format!(
            "etcd's version: expected 3.4, 3.5 or 3.6, found {number}: its flags and hash may be others"
        ));
    }
    if !predicts_hash_kv(number) {
        doubts.push(format!(
            "HashKV against the model: n/a on version {number}; known are the rows of 3.4 and 3.5, and members are compared with \
             each other"
        ));
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_sound() {
        let options = EtcdOptions {
            program: "etcd".into(),
            snapshot_every_entries: 1_000,
            heartbeat_ms: 20,
            election_ms: 200,
            flags: vec!["--max-txn-ops=256".into()],
            fault_filesystem: false,
        };
        let spec = spec(options);
        assert_eq!(spec.fault(), None);
        assert_eq!(spec.args.last().map(String::as_str), Some("--max-txn-ops=256"));
    }

    #[test]
    fn an_unknown_version_is_doubted() {
        assert_eq!(doubts(Some("etcd Version: 3.4.23\nGit SHA: x")), [""; 0]);
        assert_eq!(doubts(Some("etcd Version: 3.5.9")), [""; 0]);
        assert_eq!(doubts(Some("etcd Version: 3.6.0")).len(), 1);
        let doubts = doubts(Some("etcd Version: 4.0.0"));
        assert!(doubts.len() == 2 && doubts[0].contains("found 4.0.0"), "{doubts:?}");
    }
}
