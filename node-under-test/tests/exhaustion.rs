//! Tests of a member to which the machine gives less than it asks for: file descriptors, room on
//! the disk, a reader of its output. Real processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail there")]

mod common;

use common::{Member, free_addresses, serve_command, start};
use node_proto::etcdserverpb::kv_client::KvClient;
use node_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use node_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, SnapshotRequest};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use tonic::Code;
use tonic::transport::Channel;

/// A put of bytes that no engine makes smaller.
fn put(key: &str, bytes: usize) -> PutRequest {
    let mut state = key.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| state.rotate_left(8) ^ u64::from(byte));
    let value: Vec<u8> = (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect();
    PutRequest { key: key.to_owned().into(), value: value.into(), ..Default::default() }
}

async fn kv(at: SocketAddr) -> KvClient<Channel> {
    KvClient::connect(format!("http://{at}")).await.expect("the client endpoint answers")
}

/// `command`, after `before` in the same process: a shell that becomes the program.
fn after(before: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{before} && exec \"$@\""), "sh"]).arg(command.get_program()).args(command.get_args());
    shell
}

/// TCP sockets of the process `pid` that are connected and bound to one of `ports`, and whether
/// small messages leave them at once.
fn nodelay_of(pid: u32, ports: &[u16]) -> Vec<bool> {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap() {
        let Ok(entry) = entry else { continue };
        let is_socket = std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let fd = entry.file_name().to_string_lossy().parse().unwrap();
        // It may have been closed meanwhile.
        let Some(fd) = is_socket.then(|| pidfd_getfd(&pidfd, fd, PidfdGetfdFlags::empty()).ok()).flatten() else {
            continue;
        };
        if rustix::net::getpeername(&fd).is_err() {
            continue;
        }
        let Ok(own) = rustix::net::getsockname(&fd).map(SocketAddr::try_from) else { continue };
        if own.is_ok_and(|own| ports.contains(&own.port())) {
            found.push(is_nodelay(fd));
        }
    }
    found
}

fn is_nodelay(fd: OwnedFd) -> bool {
    rustix::net::sockopt::tcp_nodelay(&fd).unwrap()
}

/// Answers on long streams took 40 ms, because `tonic` sets the option only on sockets that it
/// accepted by itself.
#[tokio::test]
async fn small_answers_leave_at_once_on_every_listener() {
    let dir = tempfile::tempdir().unwrap();
    let addresses = free_addresses();
    let member = start(&mut serve_command(dir.path(), "redb", addresses), addresses);
    // A connection to each listener, accepted for certain: it has answered.
    member.put("a", "1").await;
    let mut kv = member.kv().await;
    let mut control = member.control().await;
    control.status(node_proto::control::StatusRequest {}).await.unwrap();
    let peer = node_proto::peer::peer_client::PeerClient::connect(format!("http://{}", addresses[0])).await;
    let mut peer = peer.unwrap();
    let refused = peer.hello(node_proto::peer::HelloRequest { route: None }).await;
    assert!(refused.is_err(), "a stranger");
    kv.put(put("b", 1)).await.unwrap();
    for address in addresses {
        let options = nodelay_of(member.pid(), &[address.port()]);
        assert!(!options.is_empty() && options.iter().all(|set| *set), "{address}: {options:?}");
    }
}

/// RocksDB could not open a file, and the member ended with exit 74.
#[tokio::test]
async fn more_connections_than_descriptors_leave_the_member_alive_and_writing() {
    let dir = tempfile::tempdir().unwrap();
    let addresses = free_addresses();
    let mut limited = after("ulimit -n 256", &serve_command(dir.path(), "rocksdb", addresses));
    let mut member = start(&mut limited, addresses);
    let mut old = member.kv().await;
    old.put(put("old", 10)).await.unwrap();
    let idle: Vec<_> = (0..400).map(|_| TcpStream::connect(addresses[1]).unwrap()).collect();
    // Memtables of 64 KiB: each of these is a flush, and new tables to open.
    for number in 0..60 {
        old.put(put(&format!("big{}", number % 8), 100_000)).await.expect("a client that was there first is served");
    }
    // The control endpoint has places of its own.
    member.flush().await;
    assert!(member.is_running());
    drop(idle);
    let mut new = kv(addresses[1]).await;
    new.put(put("new", 10)).await.expect("a place is free again");
}

#[test]
fn too_few_descriptors_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let output =
        after("ulimit -n 100", &serve_command(&dir.path().join("n1"), "redb", free_addresses())).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("expected a limit of at least 256 open files, found 100"), "{error}");
    assert!(!dir.path().join("n1").exists(), "nothing was made");
}

/// A snapshot that was never read pinned a thread and an image for ever; enough of them stopped
/// installs.
#[tokio::test]
async fn snapshots_that_nobody_reads_are_few() {
    let dir = tempfile::tempdir().unwrap();
    let member = Member::start(dir.path());
    for number in 0..40 {
        member.kv().await.put(put(&format!("k{number}"), 100_000)).await.unwrap();
    }
    let mut held = Vec::new();
    let refused = loop {
        let channel = Channel::from_shared(format!("http://{}", member.client())).unwrap().connect().await.unwrap();
        match MaintenanceClient::new(channel).snapshot(SnapshotRequest {}).await {
            Ok(unread) => held.push(unread),
            Err(status) => break status,
        }
        assert!(held.len() < 100, "no limit counts them");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert_eq!(held.len(), 4);
    // One that is given up makes room for the next, which gets all of it.
    held.pop();
    let mut whole = loop {
        match member.maintenance().await.snapshot(SnapshotRequest {}).await {
            Ok(stream) => break stream.into_inner(),
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
        }
        tokio::task::yield_now().await;
    };
    let mut last = None;
    while let Some(blob) = whole.message().await.unwrap() {
        last = Some(blob.remaining_bytes);
    }
    assert_eq!(last, Some(0));
}

/// The first log line ended the process with 101; so did the last, when the log's reader was gone.
#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    for stderr in [full(), Stdio::from(writer)] {
        let dir = tempfile::tempdir().unwrap();
        let addresses = free_addresses();
        let member = start(serve_command(dir.path(), "redb", addresses).stderr(stderr), addresses);
        assert_eq!(member.ended_by(Signal::TERM), Some(0));
    }
}

/// No process reads the log, and none has to: the member does not wait behind a pipe that is full
/// either.
#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    rustix::fs::fcntl_setfl(&filler, rustix::fs::OFlags::NONBLOCK).unwrap();
    while Write::write(&mut filler, &[b'x'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&filler, rustix::fs::OFlags::empty()).unwrap();
    drop(filler);
    let dir = tempfile::tempdir().unwrap();
    let addresses = free_addresses();
    let member = start(serve_command(dir.path(), "redb", addresses).stderr(Stdio::from(writer)), addresses);
    assert_eq!(member.ended_by(Signal::TERM), Some(0));
    drop(reader);
}

#[test]
fn a_hangup_is_a_stop_unless_it_was_to_be_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let addresses = free_addresses();
    let member = start(&mut serve_command(dir.path(), "redb", addresses), addresses);
    assert_eq!(member.ended_by(Signal::HUP), Some(0));
    // As `nohup` does it; the shell hands the ignored signal down.
    let mut ignoring = after("trap '' HUP", &serve_command(dir.path(), "redb", addresses));
    let mut member = start(&mut ignoring, addresses);
    member.signal(Signal::HUP);
    let answered = tokio::runtime::Runtime::new().unwrap().block_on(async { member.get("a").await });
    assert_eq!((answered, member.is_running()), (None, true));
    assert_eq!(member.ended_by(Signal::TERM), Some(0));
}

/// `inspect | head` ended in a panic.
#[test]
fn a_product_that_cannot_be_printed_is_an_error_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let addresses = free_addresses();
    let member = start(&mut serve_command(dir.path(), "redb", addresses), addresses);
    tokio::runtime::Runtime::new().unwrap().block_on(member.put("a", "something to print"));
    assert_eq!(member.ended_by(Signal::TERM), Some(0));
    let path = dir.path().display().to_string();
    let at = format!("--data-dir={path}");
    for args in
        [&["inspect", "--json", &*path][..], &["dump", &*at], &["hashkv", &*at], &["verify", &*at], &["defrag", &*at]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_node-under-test"));
        let output = command.args(args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        assert!(error.contains("cannot write to standard output"), "{args:?}: {error}");
    }
}

/// A small filesystem of its own; `None`, said aloud, where this user may not mount one.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(mib: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            refused => {
                // Not `eprintln`: what a test that passes prints in that way is not shown.
                let said = writeln!(
                    std::io::stderr(),
                    "SKIPPED: a full disk takes a filesystem of its own, and mounting one failed: {refused:?}\nRun it \
                     as root, or in a namespace where you are: unshare --map-root-user --mount cargo test --release \
                     -p node-under-test --test exhaustion"
                );
                said.unwrap();
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn free(&self) -> u64 {
        let found = rustix::fs::statvfs(self.path()).unwrap();
        found.f_bavail * found.f_frsize
    }

    /// Fills the filesystem until only `left` bytes are free.
    fn fill(&self, left: u64) {
        let mut file = File::options().create(true).append(true).open(self.path().join("somebody-elses")).unwrap();
        let page = vec![1; 4096];
        while self.free() > left {
            // Others write as well.
            match file.write_all(&page) {
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                written => written.unwrap(),
            }
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join("somebody-elses")).unwrap();
    }

    fn ballasts(&self) -> usize {
        (1..=3).filter(|id| self.path().join(format!("n{id}/ballast")).exists()).count()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Writes to three members, and what they acknowledged.
struct Writer {
    clients: Vec<KvClient<Channel>>,
    acknowledged: Vec<String>,
    number: usize,
}

impl Writer {
    /// Sends one write to the next member in turn, and again while the cluster has no leader. True:
    /// it was acknowledged; false: refused for want of room.
    async fn write(&mut self) -> bool {
        loop {
            self.number += 1;
            let key = format!("key/{}", self.number);
            let client = &mut self.clients[self.number % 3];
            match client.put(put(&key, 64 << 10)).await {
                Ok(_) => {
                    self.acknowledged.push(key);
                    return true;
                }
                Err(status) if status.code() == Code::Unavailable => {}
                Err(status) => {
                    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                    assert_eq!(status.message(), "etcdserver: mvcc: database space exceeded");
                    return false;
                }
            }
        }
    }

    async fn delete_nothing(&mut self, at: usize) {
        let request = || DeleteRangeRequest { key: "nothing".into(), ..Default::default() };
        while let Err(status) = self.clients[at].delete_range(request()).await {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        }
    }

    /// True if the member in place `at` has `key`.
    async fn reads(&mut self, at: usize, key: &str) -> bool {
        let request = || RangeRequest { key: key.to_owned().into(), keys_only: true, ..Default::default() };
        loop {
            match self.clients[at].range(request()).await {
                Ok(answer) => return answer.into_inner().kvs.len() == 1,
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
            }
        }
    }
}

/// All members shared a disk that filled up, and all of them ended. Now writes stop before, reads
/// go on, and there is no other cure needed than room.
async fn a_disk_that_fills_up(backend: &str) {
    let Some(disk) = Tmpfs::mount(160) else { return };
    let mut cluster = common::Cluster::start(disk.path(), backend);
    let mut clients = Vec::new();
    for at in cluster.clients() {
        clients.push(kv(at).await);
    }
    let mut writer = Writer { clients, acknowledged: Vec::new(), number: 0 };
    for _ in 0..30 {
        assert!(writer.write().await, "there is room");
    }
    assert_eq!(disk.ballasts(), 3);
    // Another program takes all but a little, and the load takes the rest of what is not kept free.
    disk.fill(24 << 20);
    while writer.write().await {
        assert!(writer.number < 2_000, "125 MiB went into 24");
    }
    // The other program goes on, beyond what any reserve could cover.
    disk.fill(6 << 20);
    for at in 0..3 {
        assert!(writer.reads(at, "key/1").await, "reads go on");
        writer.delete_nothing(at).await;
    }
    while disk.ballasts() == 3 {
        assert!(!writer.write().await, "nothing is taken while half of the reserve is gone");
    }
    assert!(cluster.all_run());
    disk.make_room();
    for _ in 0..30 {
        while !writer.write().await {
            tokio::task::yield_now().await;
        }
    }
    assert!(cluster.all_run());
    for at in 0..3 {
        for key in writer.acknowledged.clone() {
            assert!(writer.reads(at, &key).await, "{key} was acknowledged");
        }
    }
}

#[tokio::test]
async fn a_disk_that_fills_up_stops_writes_and_no_member_on_redb() {
    a_disk_that_fills_up("redb").await;
}

#[tokio::test]
async fn a_disk_that_fills_up_stops_writes_and_no_member_on_rocksdb() {
    a_disk_that_fills_up("rocksdb").await;
}

/// On a full disk the advice was to remove a healthy member.
#[tokio::test]
async fn a_start_on_a_full_disk_asks_for_room_and_the_next_one_recovers() {
    for backend in ["redb", "rocksdb"] {
        let Some(disk) = Tmpfs::mount(64) else { return };
        let dir = disk.path().join("n1");
        let addresses = free_addresses();
        // Without a reserve, so that nothing is left to start with.
        let command = || {
            let mut command = serve_command(&dir, backend, addresses);
            command.arg("--disk-reserve-bytes=0");
            command
        };
        let member = start(&mut command(), addresses);
        for number in 0..20 {
            member.kv().await.put(put(&format!("k{number}"), 64 << 10)).await.unwrap();
        }
        member.kill();
        disk.fill(0);
        let output = command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (code, error) = end_of(output);
        let error = format!("exit {code:?}: {error}");
        assert!(!error.contains("remove this member") && !error.contains("Remove this member"), "{error}");
        // RocksDB always writes a MANIFEST; redb may find all that it needs, and serve.
        if backend == "rocksdb" {
            assert!(error.contains("the disk is full: make room on it"), "{error}");
        }
        disk.make_room();
        let member = start(&mut command(), addresses);
        assert!(member.get("k19").await.is_some());
    }
}

/// Waits until the process ends or serves; then it is killed.
fn end_of(mut process: std::process::Child) -> (Option<i32>, String) {
    let mut stdout = process.stdout.take().unwrap();
    let mut first = [0];
    if stdout.read(&mut first).is_ok_and(|count| count > 0) {
        kill_process(Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap(), Signal::KILL).unwrap();
    }
    let output = process.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}
