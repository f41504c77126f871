//! The command line: `serve` runs a member, `inspect` reads a copy of a stopped one, the others
//! work offline on a stopped one.

use clap::{Args, Parser, Subcommand, ValueEnum};
use node_backend::engine::EngineKind;
use node_base::backend::Bucket;
use node_base::failpoint::Window;
use node_raft::{Dial, Member};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// An etcd-v3-compatible raft key-value store on one of two engines: redb, or RocksDB without a
/// write-ahead log.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one member of a cluster until it is told to stop (SIGTERM, SIGINT, SIGHUP).
    Serve(Box<Serve>),
    /// Read a stopped member's N, E, raft log and vote. Give it a copy: opening repairs what a kill
    /// left.
    Inspect(Inspect),
    /// A snapshot that `etcdctl snapshot save` has saved.
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Print the hash of a stopped member's keys, as HashKV answers it.
    Hashkv(HashKv),
    /// Give a stopped member's unused disk space back.
    Defrag(DataDirArgs),
    /// Change a stopped member's engine; its raft log and vote stay. After a kill, run it again.
    Migrate(Migrate),
    /// Print a stopped member's rows, a line of JSON each.
    Dump(Dump),
    /// Check whether a stopped member could start, and every checksum that it has.
    Verify(DataDirArgs),
}

#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Prove a saved snapshot, and print its hash, revision, number of rows, size, engine and raft
    /// position.
    Status(SnapshotStatus),
    /// Make the data directory of a member of a new cluster from it; once for each member, from the
    /// same file.
    Restore(Restore),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WriteOut {
    /// Fields separated by commas.
    Simple,
    Json,
}

#[derive(Debug, Args)]
pub struct SnapshotStatus {
    /// The saved file.
    pub file: PathBuf,
    #[arg(long, value_enum, default_value_t = WriteOut::Simple)]
    pub write_out: WriteOut,
}

#[derive(Debug, Args)]
pub struct Restore {
    /// The saved file.
    pub file: PathBuf,
    /// The directory to make; it must not exist.
    #[arg(long)]
    pub data_dir: PathBuf,
    /// The engine to restore into; the snapshot's own if absent.
    #[arg(long, value_enum)]
    pub backend: Option<BackendKind>,
    /// Arm a crash window, as WINDOW=HIT.
    #[arg(long = "arm", value_parser = parse_arm)]
    pub arm: Vec<(Window, u64)>,
    /// Plant a bug, by name.
    #[cfg(feature = "sabotage")]
    #[arg(long)]
    pub sabotage: Option<String>,
}

#[derive(Debug, Args)]
pub struct DataDirArgs {
    /// The data directory of a stopped member.
    #[arg(long)]
    pub data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct HashKv {
    #[command(flatten)]
    pub at: DataDirArgs,
    /// Revision to hash at; 0: the newest.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    pub rev: i64,
    #[arg(long, value_enum, default_value_t = WriteOut::Simple)]
    pub write_out: WriteOut,
}

#[derive(Debug, Args)]
pub struct Migrate {
    #[command(flatten)]
    pub at: DataDirArgs,
    /// The engine to change to.
    #[arg(long, value_enum)]
    pub to: BackendKind,
    /// Arm a crash window, as WINDOW=HIT.
    #[arg(long = "arm", value_parser = parse_arm)]
    pub arm: Vec<(Window, u64)>,
    /// Plant a bug, by name.
    #[cfg(feature = "sabotage")]
    #[arg(long)]
    pub sabotage: Option<String>,
}

#[derive(Debug, Args)]
pub struct Dump {
    #[command(flatten)]
    pub at: DataDirArgs,
    /// Only the rows of one bucket.
    #[arg(long, value_enum)]
    pub bucket: Option<BucketName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BucketName {
    Meta,
    Key,
    Lease,
    Auth,
    Member,
}

impl BucketName {
    pub fn bucket(self) -> Bucket {
        match self {
            BucketName::Meta => Bucket::Meta,
            BucketName::Key => Bucket::Key,
            BucketName::Lease => Bucket::Lease,
            BucketName::Auth => Bucket::Auth,
            BucketName::Member => Bucket::Member,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendKind {
    /// A single-file B+ tree.
    Redb,
    /// LSM tree, write-ahead log disabled.
    Rocksdb,
}

impl BackendKind {
    pub fn kind(self) -> EngineKind {
        match self {
            BackendKind::Redb => EngineKind::Redb,
            BackendKind::Rocksdb => EngineKind::Rocksdb,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Args)]
pub struct Serve {
    /// This member's id; one of the ids given by --member.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub id: u64,
    /// The directory where this member keeps everything.
    #[arg(long)]
    pub data_dir: PathBuf,
    /// The storage engine; a data directory belongs to the one that it was made with (`migrate`
    /// changes that).
    #[arg(long, value_enum, default_value_t = BackendKind::Redb)]
    pub backend: BackendKind,
    /// This member was added to a running cluster (etcdctl member add): it founds nothing and waits
    /// for the leader.
    #[arg(long)]
    pub join: bool,
    /// A member, as ID=NAME@PEER_HOST:PORT/CLIENT_HOST:PORT; each of the 1, 3 or 5 founding
    /// members, by commas or by several flags. With --join, this member's own; others are optional,
    /// the raft log names them.
    #[arg(long = "member", required = true, value_delimiter = ',', value_parser = parse_member)]
    pub members: Vec<Member>,
    /// Address of the private control endpoint (loopback only); none without it.
    #[arg(long)]
    pub control: Option<SocketAddr>,
    /// RocksDB only: size at which a memtable is sealed and flushed [default: 16 MiB].
    #[arg(long, value_parser = clap::value_parser!(u64).range(64 << 10..=1 << 30))]
    pub memtable_bytes: Option<u64>,
    /// RocksDB only: flush when more entries than this are applied but not yet flushed, which
    /// bounds the replay [default: 50000].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub unflushed_entries_max: Option<u64>,
    /// Raft log entries to keep behind the last flushed index, for members that lag.
    #[arg(long, default_value_t = 5_000)]
    pub keep_entries: u64,
    /// Offer a newer raft snapshot (and purge) each time N has moved by this many entries.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub snapshot_every_entries: u64,
    /// Leader's heartbeat interval.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub heartbeat_ms: u64,
    /// Shortest election timeout; the longest is one and a half times that.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(2..))]
    pub election_ms: u64,
    /// Connect to TO wherever the membership says that another member is at FROM, as FROM=TO, both
    /// HOST:PORT; for relays. The membership itself never holds it.
    #[arg(long = "dial", value_name = "FROM=TO", value_parser = parse_detour)]
    pub detours: Vec<(SocketAddr, SocketAddr)>,
    /// Bytes of the disk that are kept free: with less, requests that add data are refused until
    /// there is room again; 0: none [default: an eighth of the filesystem, at least 16 MiB and at
    /// most 256 MiB].
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=1 << 50))]
    pub disk_reserve_bytes: Option<u64>,
    /// Arm a crash window at start, as WINDOW=HIT.
    #[arg(long = "arm", value_parser = parse_arm)]
    pub arm: Vec<(Window, u64)>,
    /// Recover, apply what the raft log has saved as committed, print what was found and done as
    /// JSON, and stop: nothing listens, and no other member is asked.
    #[arg(long)]
    pub recover_only: bool,
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Plant a bug, by name.
    #[cfg(feature = "sabotage")]
    #[arg(long)]
    pub sabotage: Option<String>,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// The (copied) data directory of a stopped member.
    pub data_dir: PathBuf,
    /// Print JSON (the only format).
    #[arg(long, required = true)]
    pub json: bool,
}

fn parse_member(text: &str) -> Result<Member, String> {
    let expected = || format!("expected ID=NAME@PEER_HOST:PORT/CLIENT_HOST:PORT, found {text:?}");
    let (id, rest) = text.split_once('=').ok_or_else(expected)?;
    let (name, rest) = rest.split_once('@').ok_or_else(expected)?;
    let (peer, client) = rest.split_once('/').ok_or_else(expected)?;
    let id: u64 = id.parse().map_err(|_| expected())?;
    if id == 0 || name.is_empty() {
        return Err(expected());
    }
    for address in [peer, client] {
        address.parse::<SocketAddr>().map_err(|error| format!("{}: {address:?}: {error}", expected()))?;
    }
    Ok(Member { id, name: name.to_owned(), peer_addr: peer.to_owned(), client_addr: client.to_owned() })
}

fn parse_detour(text: &str) -> Result<(SocketAddr, SocketAddr), String> {
    let expected = || format!("expected FROM=TO, both HOST:PORT, found {text:?}");
    let (from, to) = text.split_once('=').ok_or_else(expected)?;
    let parse = |address: &str| address.parse().map_err(|error| format!("{}: {address:?}: {error}", expected()));
    Ok((parse(from)?, parse(to)?))
}

fn parse_arm(text: &str) -> Result<(Window, u64), String> {
    let (window, hit) = text.split_once('=').ok_or_else(|| format!("expected WINDOW=HIT, found {text:?}"))?;
    let window = Window::from_str(window).map_err(|error| error.to_string())?;
    match hit.parse::<u64>() {
        Ok(hit) if hit > 0 => Ok((window, hit)),
        _ => Err(format!("expected a hit count of at least 1, found {hit:?}")),
    }
}

impl Serve {
    /// Checks what no single flag can: this member is in the list, ids are unique, a founding list
    /// names 1, 3 or 5, and everything listens on loopback.
    pub fn validate(&self) -> anyhow::Result<()> {
        let mut ids: Vec<_> = self.members.iter().map(|member| member.id).collect();
        ids.sort_unstable();
        ids.dedup();
        anyhow::ensure!(ids.len() == self.members.len(), "--member: each id may be given once, found {ids:?} repeated");
        anyhow::ensure!(ids.contains(&self.id), "--id {} is not one of the members {ids:?}: add its --member", self.id);
        anyhow::ensure!(
            self.join || matches!(ids.len(), 1 | 3 | 5),
            "--member: expected 1, 3 or 5 members, found {}: an even number tolerates no more failures than one less. \
             To join a running cluster, add --join",
            ids.len()
        );
        let tuned =
            [("--memtable-bytes", self.memtable_bytes), ("--unflushed-entries-max", self.unflushed_entries_max)];
        if let Some((flag, _)) = tuned.iter().find(|(_, value)| self.backend == BackendKind::Redb && value.is_some()) {
            anyhow::bail!(
                "{flag} tunes memtables, and --backend=redb has none: leave it out, or give --backend=rocksdb"
            );
        }
        self.dial()?;
        let own = self.own();
        let addresses = [own.peer_addr.parse::<SocketAddr>()?, own.client_addr.parse()?];
        for address in addresses.into_iter().chain(self.control) {
            anyhow::ensure!(
                address.ip().is_loopback(),
                "{address}: this build listens on loopback only, found another interface"
            );
        }
        Ok(())
    }

    /// # Errors
    /// Two detours begin at the same address.
    pub fn dial(&self) -> anyhow::Result<Dial> {
        Dial::new(self.detours.iter().copied()).map_err(|error| anyhow::anyhow!("--dial: {error}"))
    }

    /// This member's own entry of the list.
    pub fn own(&self) -> &Member {
        self.members.iter().find(|member| member.id == self.id).unwrap_or(&self.members[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(extra: &[&str]) -> Result<Serve, String> {
        let base = ["node-under-test", "serve", "--data-dir", "d"];
        let cli = Cli::try_parse_from(base.iter().chain(extra)).map_err(|error| error.to_string())?;
        match cli.command {
            Command::Serve(serve) => serve.validate().map(|()| *serve).map_err(|error| error.to_string()),
            _ => unreachable!("asked for serve"),
        }
    }

    const ONE: &str = "1=n1@127.0.0.1:7001/127.0.0.1:7101";
    const TWO: &str = "2=n2@127.0.0.1:7002/127.0.0.1:7102";

    #[test]
    fn one_member_is_fine() {
        assert_eq!(serve(&["--id", "1", "--member", ONE]).unwrap().own().name, "n1");
    }

    #[test]
    fn memtables_are_tuned_on_rocksdb_only() {
        let tuned = ["--id", "1", "--member", ONE, "--memtable-bytes", "65536"];
        let rocksdb = [&tuned[..], &["--backend", "rocksdb"]].concat();
        assert_eq!(serve(&rocksdb).unwrap().memtable_bytes, Some(65_536));
        let error = serve(&tuned).unwrap_err();
        assert!(error.contains("--memtable-bytes tunes memtables"), "{error}");
    }

    #[test]
    fn a_member_that_joins_needs_only_itself() {
        assert!(serve(&["--join", "--id", "4", "--member", "4=n4@127.0.0.1:7004/127.0.0.1:7104"]).unwrap().join);
        assert!(serve(&["--join", "--id", "1", "--member", ONE, "--member", TWO]).is_ok());
        let error = serve(&["--join", "--id", "4", "--member", ONE]).unwrap_err();
        assert!(error.contains("--id 4 is not one of the members"), "{error}");
    }

    #[test]
    fn refusals_say_what_was_expected() {
        for (extra, text) in [
            (vec!["--id", "1", "--member", ONE, "--member", TWO], "expected 1, 3 or 5 members, found 2"),
            (vec!["--id", "3", "--member", ONE], "--id 3 is not one of the members"),
            (vec!["--id", "1", "--member", ONE, "--member", ONE], "may be given once"),
            (vec!["--id", "1", "--member", "1=n1@nowhere/127.0.0.1:1"], "expected ID=NAME@PEER_HOST:PORT"),
            (vec!["--id", "1", "--member", "1=n1@0.0.0.0:7/127.0.0.1:1"], "loopback only"),
            (vec!["--id", "1", "--member", ONE, "--arm", "nowhere=1"], "unknown window"),
            (vec!["--id", "1", "--member", ONE, "--arm", "flush.begin=0"], "at least 1"),
            (vec!["--id", "0", "--member", ONE], "0 is not in 1.."),
            (vec!["--id", "1", "--member", ONE, "--dial", "127.0.0.1:1"], "expected FROM=TO, both HOST:PORT"),
            (vec!["--id", "1", "--member", ONE, "--dial", "127.0.0.1:1=here:2"], "\"here:2\": invalid socket address"),
            (
                vec![
                    "--id",
                    "1",
                    "--member",
                    ONE,
                    "--dial",
                    "127.0.0.1:1=127.0.0.1:2",
                    "--dial",
                    "127.0.0.1:1=127.0.0.1:3",
                ],
                "--dial: expected one detour for 127.0.0.1:1",
            ),
        ] {
            let error = serve(&extra).unwrap_err();
            assert!(error.contains(text), "{extra:?}: {error}");
        }
    }
}
