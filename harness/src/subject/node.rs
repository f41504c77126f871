//! `node-under-test`: the node that ships with the harness. It has a control endpoint, crash
//! windows and data that can be read when it is dead.

use super::{Life, Origin};
use ninelives_evidence::member::Engine;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The file in a member's data directory that only reserves room.
pub const BALLAST: &str = "ballast";

/// Planted bugs of RocksDB's own protocol, or of its form of a snapshot: redb has no code to plant
/// them in.
const LSM_BUGS: &[&str] = &[
    "capture-at-flush-begin",
    "capture-at-flush-end",
    "persist-before-flush",
    "open-check-missing",
    "index-before-data",
    "replay-again",
    "noop-does-not-advance",
    "torn-index-file",
    "wire-size-body-only",
];

/// Planted bugs of redb's groups.
const REDB_BUGS: &[&str] = &["redb-no-sync"];

/// Whether a member with this engine can have the planted bug called `name`; the node refuses
/// unknown names.
pub fn bug_exists_on(name: &str, engine: Engine) -> bool {
    let of_the_other = if engine == Engine::Redb { LSM_BUGS } else { REDB_BUGS };
    !of_the_other.contains(&name)
}

/// The binaries and options that are the same for every member and every life.
#[derive(Debug, Clone)]
pub struct Node {
    pub node: PathBuf,
    /// The program that reads dead directories; ideally a different build from `node`, above all
    /// when a bug is planted in `node`.
    pub inspector: PathBuf,
    /// For members that run rocksdb; `None`: no member ever does.
    pub memtable_bytes: Option<u64>,
    pub keep_entries: u64,
    pub snapshot_every_entries: u64,
    pub sabotage: Option<String>,
}

impl Node {
    /// The arguments that start `life`.
    pub fn serve_args(&self, life: &Life<'_>) -> Vec<OsString> {
        let mut args: Vec<OsString> =
            vec!["serve".into(), "--id".into(), life.id.to_string().into(), "--data-dir".into()];
        args.push(life.data_dir.into());
        let mut option = |name: &str, value: String| args.extend([OsString::from(name), value.into()]);
        option("--backend", life.engine.name().to_owned());
        let own = [(life.id, life.at)];
        let (letter, members) = match life.origin {
            Origin::Founder(members) => ('n', members),
            Origin::Stranger(members) => ('s', members),
            Origin::Joined => ('n', &own[..]),
        };
        for (member, at) in members {
            option("--member", format!("{member}={letter}{member}@{}/{}", at.peer, at.client));
        }
        option("--control", life.at.control.to_string());
        if let Some(bytes) = self.memtable_bytes.filter(|_| life.engine == Engine::Rocksdb) {
            option("--memtable-bytes", bytes.to_string());
        }
        option("--keep-entries", self.keep_entries.to_string());
        option("--snapshot-every-entries", self.snapshot_every_entries.to_string());
        option("--log-format", "json".to_owned());
        if let Some((window, hit)) = life.arm {
            option("--arm", format!("{window}={hit}"));
        }
        for (from, to) in life.detours {
            option("--dial", format!("{from}={to}"));
        }
        if let Some(bug) = &self.sabotage {
            option("--sabotage", bug.clone());
        }
        if life.origin == Origin::Joined {
            args.push("--join".into());
        }
        args
    }

    /// The arguments that make it recover as `life` would, alone, and end.
    pub fn recover_args(&self, life: &Life<'_>) -> Vec<OsString> {
        let mut args = self.serve_args(life);
        // The directory is gone in a moment, so no room is held back in it.
        args.extend(["--recover-only", "--disk-reserve-bytes", "0"].map(OsString::from));
        args
    }

    /// The arguments that change the engine of the dead directory `data_dir`.
    pub fn migrate_args(&self, data_dir: &Path, to: Engine, arm: Option<(&str, u64)>) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["migrate".into(), "--data-dir".into(), data_dir.into()];
        args.extend(["--to".into(), to.name().into()]);
        if let Some((window, hit)) = arm {
            args.extend(["--arm".into(), format!("{window}={hit}").into()]);
        }
        if let Some(bug) = &self.sabotage {
            args.extend(["--sabotage".into(), bug.into()]);
        }
        args
    }

    /// The arguments that make the data directory `data_dir`, for `into`, out of the saved snapshot
    /// `file`.
    pub fn restore_args(&self, file: &Path, data_dir: &Path, into: Engine, arm: Option<(&str, u64)>) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["snapshot".into(), "restore".into(), file.into()];
        args.extend(["--data-dir".into(), data_dir.into(), "--backend".into(), into.name().into()]);
        if let Some((window, hit)) = arm {
            args.extend(["--arm".into(), format!("{window}={hit}").into()]);
        }
        if let Some(bug) = &self.sabotage {
            args.extend(["--sabotage".into(), bug.into()]);
        }
        args
    }

    /// The arguments that make the inspector say what the saved snapshot `file` is.
    pub fn snapshot_status_args(file: &Path) -> Vec<OsString> {
        vec!["snapshot".into(), "status".into(), file.into(), "--write-out".into(), "json".into()]
    }

    /// The arguments that make the inspector read the dead directory `data_dir`.
    pub fn inspect_args(data_dir: &Path) -> Vec<OsString> {
        vec!["inspect".into(), "--json".into(), data_dir.into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Addresses;
    use std::net::SocketAddr;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn addresses(slot: u16) -> Addresses {
        Addresses { peer: at(10 + slot), client: at(20 + slot), control: at(30 + slot) }
    }

    fn target() -> Node {
        Node {
            node: "node".into(),
            inspector: "node".into(),
            memtable_bytes: Some(65_536),
            keep_entries: 500,
            snapshot_every_entries: 1_000,
            sabotage: None,
        }
    }

    fn text(args: Vec<OsString>) -> String {
        args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_founder_is_named_and_control_is_the_own_one() {
        let members: Vec<_> = (1..=3).map(|id| (id, addresses(id as u16))).collect();
        let life = Life {
            id: 2,
            engine: Engine::Rocksdb,
            at: addresses(2),
            data_dir: Path::new("/d/n2"),
            origin: Origin::Founder(&members),
            arm: Some(("recovery.replay-apply", 3)),
            detours: &[(at(11), at(41)), (at(13), at(43))],
        };
        assert_eq!(
            text(target().serve_args(&life)),
            "serve --id 2 --data-dir /d/n2 --backend rocksdb --member 1=n1@127.0.0.1:11/127.0.0.1:21 \
             --member 2=n2@127.0.0.1:12/127.0.0.1:22 --member 3=n3@127.0.0.1:13/127.0.0.1:23 --control 127.0.0.1:32 \
             --memtable-bytes 65536 --keep-entries 500 --snapshot-every-entries 1000 --log-format json \
             --arm recovery.replay-apply=3 --dial 127.0.0.1:11=127.0.0.1:41 --dial 127.0.0.1:13=127.0.0.1:43"
        );
    }

    #[test]
    fn who_joins_names_itself_and_redb_has_no_memtable() {
        let life = Life {
            id: 7,
            engine: Engine::Redb,
            at: addresses(2),
            data_dir: Path::new("/d/n7"),
            origin: Origin::Joined,
            arm: None,
            detours: &[],
        };
        assert_eq!(
            text(target().serve_args(&life)),
            "serve --id 7 --data-dir /d/n7 --backend redb --member 7=n7@127.0.0.1:12/127.0.0.1:22 --control 127.0.0.1:32 \
             --keep-entries 500 --snapshot-every-entries 1000 --log-format json --join"
        );
    }

    /// The name is all that tells the two clusters apart.
    #[test]
    fn a_stranger_founds_a_cluster_of_other_names_at_the_same_places() {
        let members: Vec<_> = (1..=3).map(|id| (id, addresses(id as u16))).collect();
        let of = |origin| {
            let life = Life {
                id: 2,
                engine: Engine::Redb,
                at: addresses(2),
                data_dir: Path::new("/d/x2"),
                origin,
                arm: None,
                detours: &[],
            };
            text(target().serve_args(&life))
        };
        let stranger = of(Origin::Stranger(&members));
        assert!(stranger.contains("--member 1=s1@127.0.0.1:11/127.0.0.1:21 --member 2=s2@"), "{stranger}");
        assert_eq!(of(Origin::Founder(&members)), stranger.replace("=s", "=n"));
    }

    #[test]
    fn migrate_is_armed_and_sabotaged_like_serve() {
        let args = |sabotage: Option<&str>| {
            let target = Node { sabotage: sabotage.map(str::to_owned), ..target() };
            text(target.migrate_args(Path::new("/d/n2"), Engine::Redb, Some(("migrate.copied", 1))))
        };
        let armed = "migrate --data-dir /d/n2 --to redb --arm migrate.copied=1";
        assert_eq!(args(None), armed);
        assert_eq!(args(Some("migrate-no-dir-fsync")), format!("{armed} --sabotage migrate-no-dir-fsync"));
    }

    /// A bug of the restore itself is planted where the restore runs.
    #[test]
    fn restore_is_armed_and_sabotaged_like_serve() {
        let target = Node { sabotage: Some("restore-drops-leases".to_owned()), ..target() };
        let (file, dir) = (Path::new("/d/saved"), Path::new("/d/n4"));
        assert_eq!(
            text(target.restore_args(file, dir, Engine::Redb, Some(("restore.image", 1)))),
            "snapshot restore /d/saved --data-dir /d/n4 --backend redb --arm restore.image=1 --sabotage restore-drops-leases"
        );
    }
}
