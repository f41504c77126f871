//! One real member process on a temporary data directory, killed when the test lets go of it.
#![allow(dead_code, reason = "each test binary uses its part")]

use node_proto::control::control_client::ControlClient;
use node_proto::control::{FlushRequest, StatusRequest, StatusResponse};
use node_proto::etcdserverpb as etcd;
use node_proto::etcdserverpb::kv_client::KvClient;
use node_proto::etcdserverpb::lease_client::LeaseClient;
use node_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use node_proto::etcdserverpb::watch_client::WatchClient;
use node_proto::etcdserverpb::{HashKvRequest, PutRequest, RangeRequest};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tonic::transport::Channel;

/// A running single-member cluster.
pub struct Member {
    process: Child,
    client: SocketAddr,
    control: SocketAddr,
}

/// Ports for one member, free when asked.
pub fn free_addresses() -> [SocketAddr; 3] {
    free([(); 3])
}

/// All of them different: each is held until the last is found.
fn free<const N: usize>(wanted: [(); N]) -> [SocketAddr; N] {
    let listeners = wanted.map(|()| TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"));
    listeners.map(|listener| listener.local_addr().expect("a bound listener has an address"))
}

/// The command that runs a single member.
pub fn serve_command(data_dir: &Path, backend: &str, [peer, client, control]: [SocketAddr; 3]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_node-under-test"));
    command.args(["serve", "--id", "1", "--backend", backend]);
    if backend == "rocksdb" {
        command.args(["--memtable-bytes", "65536"]);
    }
    command
        .args(["--keep-entries", "0", "--snapshot-every-entries", "1"])
        .arg("--data-dir")
        .arg(data_dir)
        .arg(format!("--member=1=n1@{peer}/{client}"))
        .arg(format!("--control={control}"));
    command
}

/// Starts a member of the RocksDB engine and waits for its end; for data that it must refuse. Exit
/// code and standard error.
pub fn refused(data_dir: &Path) -> (i32, String) {
    refused_by(data_dir, "rocksdb")
}

/// The same for any engine.
pub fn refused_by(data_dir: &Path, backend: &str) -> (i32, String) {
    let Output { status, stderr, .. } =
        serve_command(data_dir, backend, free_addresses()).output().expect("the member's binary starts");
    (status.code().unwrap_or(-1), String::from_utf8_lossy(&stderr).into_owned())
}

/// Runs `command` and waits until it says that it serves.
pub fn start(command: &mut Command, addresses: [SocketAddr; 3]) -> Member {
    let mut process = command.stdout(Stdio::piped()).spawn().expect("the member's binary starts");
    let mut line = String::new();
    let stdout = process.stdout.take().expect("standard output is piped");
    let member = Member { process, client: addresses[1], control: addresses[2] };
    BufReader::new(stdout).read_line(&mut line).expect("standard output is readable");
    assert_eq!(line, "{\"event\":\"serving\"}\n");
    member
}

/// Three members that founded a cluster together.
pub struct Cluster {
    members: Vec<Member>,
}

impl Cluster {
    /// Starts them in directories under `root`, and waits until each says that it serves.
    pub fn start(root: &Path, backend: &str) -> Self {
        let [a, b, c, d, e, f, g, h, i] = free([(); 9]);
        let addresses = [(1, [a, b, c]), (2, [d, e, f]), (3, [g, h, i])];
        let members = addresses.iter().map(|(id, own)| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_node-under-test"));
            command.args(["serve", "--id", &id.to_string(), "--backend", backend, "--keep-entries", "500"]);
            if backend == "rocksdb" {
                command.args(["--memtable-bytes", "1048576"]);
            }
            command.arg("--data-dir").arg(root.join(format!("n{id}"))).arg(format!("--control={}", own[2]));
            for (id, [peer, client, _]) in &addresses {
                command.arg(format!("--member={id}=n{id}@{peer}/{client}"));
            }
            start(command.stderr(Stdio::null()), *own)
        });
        Self { members: members.collect() }
    }

    pub fn clients(&self) -> Vec<SocketAddr> {
        self.members.iter().map(Member::client).collect()
    }

    pub fn all_run(&mut self) -> bool {
        self.members.iter_mut().all(Member::is_running)
    }
}

impl Member {
    /// Starts a member of the RocksDB engine and waits until it says that it serves.
    pub fn start(data_dir: &Path) -> Self {
        Self::start_on(data_dir, "rocksdb")
    }

    /// The same for any engine.
    pub fn start_on(data_dir: &Path, backend: &str) -> Self {
        let addresses = free_addresses();
        start(serve_command(data_dir, backend, addresses).stderr(Stdio::null()), addresses)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn client(&self) -> SocketAddr {
        self.client
    }

    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("a child can be asked").is_none()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).expect("a child has an id");
        kill_process(pid, signal).expect("the member runs");
    }

    /// Its exit code after `signal`.
    pub fn ended_by(mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.process.wait().expect("a child can be waited for").code()
    }

    pub async fn control(&self) -> ControlClient<Channel> {
        ControlClient::connect(format!("http://{}", self.control)).await.expect("the control endpoint answers")
    }

    pub async fn kv(&self) -> KvClient<Channel> {
        KvClient::connect(format!("http://{}", self.client)).await.expect("the client endpoint answers")
    }

    pub async fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::connect(format!("http://{}", self.client)).await.expect("the client endpoint answers")
    }

    pub async fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::connect(format!("http://{}", self.client)).await.expect("the client endpoint answers")
    }

    /// HashKV at the newest revision.
    pub async fn hash_kv(&self) -> u32 {
        let answer = self.maintenance().await.hash_kv(HashKvRequest { revision: 0 }).await;
        answer.expect("a healthy member hashes").into_inner().hash
    }

    pub async fn put(&self, key: &str, value: &str) {
        let request = PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
        self.kv().await.put(request).await.expect("a healthy member takes a put");
    }

    pub async fn get(&self, key: &str) -> Option<String> {
        let request = RangeRequest { key: key.to_owned().into(), ..Default::default() };
        let answer = self.kv().await.range(request).await.expect("a healthy member answers a range");
        answer.into_inner().kvs.pop().map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
    }

    /// Flushes; afterwards N covers everything that was acknowledged.
    pub async fn flush(&self) -> StatusResponse {
        self.control().await.flush(FlushRequest {}).await.expect("a healthy member flushes").into_inner()
    }

    pub async fn status(&self) -> StatusResponse {
        self.control().await.status(StatusRequest {}).await.expect("a healthy member has a status").into_inner()
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(mut self) {
        self.process.kill().expect("the member runs");
        self.process.wait().expect("a killed child can be waited for");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Three members, each with a directory of its own, killed when the test lets go of them.
pub struct Trio {
    members: Vec<Member>,
    _dirs: Vec<tempfile::TempDir>,
}

impl Trio {
    /// Starts them on redb, and waits until they say that they serve.
    pub fn start() -> Self {
        let addresses = [(); 3].map(|()| free_addresses());
        let member =
            |(id, [peer, client, _]): (usize, &[SocketAddr; 3])| format!("--member={id}=n{id}@{peer}/{client}");
        let founders: Vec<_> = (1..).zip(&addresses).map(member).collect();
        let dirs: Vec<_> = addresses.iter().map(|_| tempfile::tempdir().expect("a directory can be made")).collect();
        let spawn = |(id, dir): (usize, &tempfile::TempDir)| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_node-under-test"));
            let [_, client, control] = addresses[id - 1];
            command.args(["serve", "--backend", "redb", "--id"]).arg(id.to_string()).arg("--data-dir").arg(dir.path());
            command.args(&founders).arg(format!("--control={control}"));
            Member {
                process: command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts"),
                client,
                control,
            }
        };
        let mut members: Vec<_> = (1..).zip(&dirs).map(spawn).collect();
        for member in &mut members {
            let mut line = String::new();
            let stdout = member.process.stdout.take().expect("standard output is piped");
            BufReader::new(stdout).read_line(&mut line).expect("standard output is readable");
            assert_eq!(line, "{\"event\":\"serving\"}\n");
        }
        Self { members, _dirs: dirs }
    }

    pub async fn kv(&self, at: usize) -> KvClient<Channel> {
        self.members[at].kv().await
    }

    pub async fn lease(&self, at: usize) -> LeaseClient<Channel> {
        self.members[at].lease().await
    }

    pub async fn maintenance(&self, at: usize) -> MaintenanceClient<Channel> {
        self.members[at].maintenance().await
    }

    pub async fn watch(&self, at: usize) -> WatchClient<Channel> {
        let endpoint = format!("http://{}", self.members[at].client);
        WatchClient::connect(endpoint).await.expect("the client endpoint answers")
    }

    /// Places of the members that do not lead, once one does.
    pub async fn followers(&self) -> Vec<usize> {
        loop {
            // A write waits for the election.
            let request = PutRequest { key: "leader".into(), ..Default::default() };
            let written = self.kv(0).await.put(request).await;
            let status = self.maintenance(0).await.status(etcd::StatusRequest {}).await;
            let leader = status.expect("a healthy member has a status").into_inner().leader;
            if written.is_ok() && leader > 0 {
                return (0..3).filter(|at| *at as u64 + 1 != leader).collect();
            }
        }
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(&mut self, at: usize) {
        self.members[at].process.kill().expect("the member runs");
        self.members[at].process.wait().expect("a killed child can be waited for");
    }
}

/// Copies a directory tree.
pub fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the copy's directory can be made");
    for entry in std::fs::read_dir(from).expect("the original is readable") {
        let entry = entry.expect("a directory entry is readable");
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type().expect("an entry has a type").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("a file can be copied");
        }
    }
}
