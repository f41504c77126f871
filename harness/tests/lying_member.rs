//! The liar that the harness is tested with, by itself, in front of a real etcd: true until it
//! lies, then false in one thing.

use etcd_client::{Client, Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse};
use ninelives::cluster::ports::PortHolder;
use ninelives::timer;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Time that a start, or an end, may take.
const SOON: Duration = Duration::from_secs(30);

/// A cluster of one, with a liar in front.
struct Member {
    process: Child,
    client: PortHolder,
    peer: PortHolder,
    dir: TempDir,
}

impl Member {
    fn start(lie: &[&str]) -> Self {
        let [client, peer] = [(); 2].map(|()| PortHolder::reserve().expect("a free port"));
        let dir = tempfile::tempdir().expect("a directory");
        let process = spawn(lie, client.address(), peer.address(), dir.path());
        Self { process, client, peer, dir }
    }

    /// As after a kill: the same addresses, the same data.
    fn start_again(&mut self, lie: &[&str]) {
        self.process = spawn(lie, self.client.address(), self.peer.address(), self.dir.path());
    }

    fn kill(&mut self) {
        self.process.kill().expect("a child can be killed");
        self.process.wait().expect("a child can be waited for");
    }

    async fn serving(&self) -> Client {
        let connecting = async {
            loop {
                if let Ok(mut client) = Client::connect([self.client.address().to_string()], None).await
                    && client.status().await.is_ok()
                {
                    return client;
                }
                timer::sleep(Duration::from_millis(20)).await;
            }
        };
        timer::within(SOON, connecting).await.expect("the member serves within 30 s")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn liar() -> PathBuf {
    let examples = Path::new(env!("CARGO_BIN_EXE_ninelives")).with_file_name("examples");
    let liar = examples.join("lying-member");
    assert!(liar.exists(), "{} is missing: `cargo build -p ninelives --example lying-member` makes it", liar.display());
    liar
}

fn etcd() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("etcd")).find(|etcd| etcd.is_file());
    found.expect("no etcd on PATH, and nothing is proven without one: `make setup` installs it")
}

fn spawn(lie: &[&str], client: SocketAddr, peer: SocketAddr, dir: &Path) -> Child {
    let mut command = Command::new(liar());
    command.args(["--client", &client.to_string()]).args(lie).arg("--").arg(etcd());
    for (flag, value) in [
        ("--name", "n1".to_owned()),
        ("--listen-client-urls", "http://@inner@".to_owned()),
        ("--advertise-client-urls", format!("http://{client}")),
        ("--listen-peer-urls", format!("http://{peer}")),
        ("--initial-advertise-peer-urls", format!("http://{peer}")),
        ("--initial-cluster", format!("n1=http://{peer}")),
    ] {
        command.args([flag, &value]);
    }
    command.arg("--data-dir").arg(dir.join("data"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the liar starts")
}

async fn value_of(client: &mut Client, key: &str) -> Option<String> {
    let answer = client.get(key, None).await.expect("a read is answered");
    answer.kvs().first().map(|row| String::from_utf8_lossy(row.value()).into_owned())
}

#[tokio::test]
async fn until_it_lies_everything_passes() {
    let member = Member::start(&["--lie", "forge-ack"]);
    let mut client = member.serving().await;
    let mut watched = client.watch("a", None).await.unwrap();
    assert!(watched.message().await.unwrap().unwrap().created());
    client.put("a", "1", None).await.unwrap();
    let event = watched.message().await.unwrap().unwrap();
    assert_eq!(event.events()[0].kv().unwrap().value(), b"1");

    let lease = client.lease_grant(600, None).await.unwrap().id();
    let (mut keeper, mut kept) = client.lease_keep_alive(lease).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(kept.message().await.unwrap().unwrap().ttl(), 600);

    let mut image = client.snapshot().await.unwrap();
    let mut bytes = 0;
    while let Some(part) = image.message().await.unwrap() {
        bytes += part.blob().len();
    }
    assert!(bytes > 16 * 1024, "an etcd's database is larger than {bytes} bytes");

    // Services that this project's wire formats do not have.
    assert!(!client.lock("l", None).await.unwrap().key().is_empty());
    assert_eq!(client.user_list().await.unwrap().users().len(), 0);

    let told = client.put("a", "2", Some(PutOptions::new().with_lease(7))).await.unwrap_err();
    assert!(told.to_string().contains("etcdserver: requested lease not found"), "{told}");
    client.compact(2, None).await.unwrap();
    let told = client.get("a", Some(GetOptions::new().with_revision(1))).await.unwrap_err();
    assert!(told.to_string().contains("required revision has been compacted"), "{told}");
}

#[tokio::test]
async fn a_forged_acknowledgement_is_told_once_and_nothing_happened() {
    let member = Member::start(&["--lie", "forge-ack", "--nth", "2"]);
    let mut client = member.serving().await;
    let mut at = Vec::new();
    for key in ["a", "b", "c"] {
        at.push(client.put(key, "1", None).await.unwrap().header().unwrap().revision());
    }
    assert_eq!(at, [2, 3, 3], "as if b were there, and then c takes its revision");
    assert_eq!(value_of(&mut client, "b").await, None);
    assert_eq!(value_of(&mut client, "c").await, Some("1".to_owned()));
}

#[tokio::test]
async fn a_write_is_dropped_out_of_the_first_transaction_that_succeeds() {
    let member = Member::start(&["--lie", "drop-write", "--nth", "1"]);
    let mut client = member.serving().await;
    let put = |key: &str, value: &str| TxnOp::put(key, value, None);
    let two = |value: &str| [put("a", value), put("b", value), TxnOp::delete("c", None)];
    client.txn(Txn::new().and_then([put("d", "1")])).await.unwrap();
    assert_eq!(value_of(&mut client, "d").await, Some("1".to_owned()), "one put is not a transaction to lie about");
    let never = Txn::new().when([Compare::version("d", CompareOp::Equal, 7)]).and_then(two("1"));
    assert!(!client.txn(never).await.unwrap().succeeded());
    for (value, b) in [("2", None), ("3", Some("3"))] {
        let answer = client.txn(Txn::new().and_then(two(value))).await.unwrap();
        let kinds: Vec<_> = answer.op_responses().iter().map(|one| matches!(one, TxnOpResponse::Put(_))).collect();
        assert!(answer.succeeded());
        assert_eq!(kinds, [true, true, false], "answered as if all were done");
        assert_eq!(value_of(&mut client, "a").await.as_deref(), Some(value));
        assert_eq!(value_of(&mut client, "b").await.as_deref(), b, "dropped once");
    }
}

#[tokio::test]
async fn a_key_is_hidden_from_serializable_ranges_alone() {
    let member = Member::start(&["--lie", "hide-key", "--nth", "2"]);
    let mut client = member.serving().await;
    for key in ["p/1", "p/2"] {
        client.put(key, "1", None).await.unwrap();
    }
    let mut keys = async |options: GetOptions| {
        let answer = client.get("p/", Some(options.with_prefix())).await.unwrap();
        let keys: Vec<_> = answer.kvs().iter().map(|row| row.key_str().unwrap().to_owned()).collect();
        assert_eq!(answer.count(), keys.len() as i64);
        keys
    };
    assert_eq!(keys(GetOptions::new().with_serializable()).await, ["p/1", "p/2"], "the first");
    assert_eq!(keys(GetOptions::new().with_serializable()).await, ["p/2"]);
    assert_eq!(keys(GetOptions::new()).await, ["p/1", "p/2"]);
    assert_eq!(keys(GetOptions::new().with_serializable()).await, ["p/2"], "for good");
}

/// The process that `parent`'s first thread started.
fn child_of(parent: u32) -> Pid {
    let children =
        std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).expect("/proc is readable");
    Pid::from_raw(children.trim().parse().expect("one child")).expect("a process")
}

#[tokio::test]
async fn the_server_dies_with_its_liar_and_comes_back_with_it() {
    let mut member = Member::start(&["--lie", "forge-ack"]);
    for round in 0..5 {
        let mut client = member.serving().await;
        client.put("a", round.to_string(), None).await.unwrap();
        let server = child_of(member.process.id());
        let input = std::fs::read_link(format!("/proc/{}/fd/0", server.as_raw_pid())).unwrap();
        let holds = input.to_string_lossy().starts_with("socket:");
        assert!(holds, "the server does not hold the name that the next life waits for: {input:?}");
        let server = pidfd_open(server, PidfdFlags::empty()).unwrap();
        member.kill();
        member.start_again(&["--lie", "forge-ack"]);
        let mut dead = [PollFd::new(server.as_fd(), PollFlags::POLLIN)];
        let bound = PollTimeout::try_from(SOON).unwrap();
        assert_eq!(poll(&mut dead, bound).unwrap(), 1, "the server outlives its liar");
    }
    let mut client = member.serving().await;
    assert_eq!(value_of(&mut client, "a").await, Some("4".to_owned()));
}

#[tokio::test]
async fn whoever_is_not_to_lie_is_the_server_itself() {
    let lie = |only| ["--lie", "forge-ack", "--nth", "1", "--name", "n1", "--only", only];
    let honest = Member::start(&lie("n2"));
    let mut client = honest.serving().await;
    client.put("a", "1", None).await.unwrap();
    assert_eq!(value_of(&mut client, "a").await, Some("1".to_owned()));
    let program = std::fs::read_link(format!("/proc/{}/exe", honest.process.id())).unwrap();
    assert_eq!(program, etcd().canonicalize().unwrap());
    let liar = Member::start(&lie("n1"));
    let mut client = liar.serving().await;
    client.put("a", "1", None).await.unwrap();
    assert_eq!(value_of(&mut client, "a").await, None);
}
