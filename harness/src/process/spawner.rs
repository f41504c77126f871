//! The one thread that spawns.
//!
//! It exists because PR_SET_PDEATHSIG is bound to the thread that forked: a child spawned from a
//! pool thread would be killed when the pool shrinks. The thread ends when the last [`Spawner`] and
//! the last [`Child`] are gone, and it is the only caller of `Command::spawn` in the harness.

use super::before_exec::{begin_clean, limit_open_files};
use super::child::Child;
use super::cpu::CpuTime;
use super::environment::Environment;
use crate::pace::Pace;
use crate::scenario::EnvironmentSpec;
use anyhow::{Context, anyhow, bail};
use ninelives_evidence::ended::Ended;
use ninelives_evidence::limits;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// A process to be started. Standard input is empty, standard output a pipe.
#[derive(Debug)]
pub struct Launch {
    program: PathBuf,
    args: Vec<OsString>,
    diagnostics: Diagnostics,
    /// Limit of open files; `None`: the harness's own.
    nofile: Option<u64>,
}

/// The place of a child's standard error.
#[derive(Debug)]
enum Diagnostics {
    Pipe,
    Log(PathBuf),
    /// A device that takes no byte: each write fails as it does on a full disk.
    Full,
}

impl Launch {
    pub fn new(program: impl Into<PathBuf>, args: Vec<OsString>) -> Self {
        Self { program: program.into(), args, diagnostics: Diagnostics::Pipe, nofile: None }
    }

    /// Appends standard error to `log`, across lives.
    pub fn log_to(mut self, log: &Path) -> Self {
        self.diagnostics = Diagnostics::Log(log.to_owned());
        self
    }

    /// Lets every write to standard error fail for want of room.
    pub fn with_full_diagnostics(mut self) -> Self {
        self.diagnostics = Diagnostics::Full;
        self
    }

    /// Limits its open files, if there is a limit.
    pub fn limit_open_files(mut self, nofile: Option<u64>) -> Self {
        self.nofile = nofile;
        self
    }
}

/// A child that was just started, with the reading ends of its pipes.
#[derive(Debug)]
pub struct Started {
    pub child: Child,
    pub stdout: pipe::Receiver,
    /// `None` if standard error goes elsewhere.
    pub stderr: Option<pipe::Receiver>,
}

/// The output of a process that ran to its end.
#[derive(Debug)]
pub struct Output {
    pub ended: Ended,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    pub fn success(&self) -> bool {
        self.ended == Ended::Exited(0)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// The last line of standard error as `: "line"`, or nothing.
    pub fn stderr_tail(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        last_line(&text).map(|line| format!(": {line:?}")).unwrap_or_default()
    }
}

/// The last line of `text` that is not blank.
pub fn last_line(text: &str) -> Option<&str> {
    text.trim_end().lines().next_back()
}

type Reply = oneshot::Sender<io::Result<Raw>>;

struct Raw {
    child: Child,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
}

/// A handle to the spawning thread.
#[derive(Debug, Clone)]
pub struct Spawner {
    requests: mpsc::Sender<(Launch, Spawner, Reply)>,
    /// The pace by which bounds on its children are stretched.
    pace: Pace,
    cpu: CpuTime,
}

impl Spawner {
    /// Starts the thread, whose children have the part of the caller's environment that every child
    /// gets. It must be called within a tokio runtime.
    ///
    /// # Errors
    /// The thread cannot be started, or SIGCHLD cannot be caught.
    pub fn start() -> io::Result<Self> {
        Self::start_with(Environment::of_caller(&EnvironmentSpec::default()), Pace::idle())
    }

    /// Starts the spawning thread, with `environment` for the children and bounds that `pace`
    /// stretches.
    ///
    /// # Errors
    /// As [`Spawner::start`].
    pub fn start_with(environment: Environment, pace: Pace) -> io::Result<Self> {
        // A parent may have handed down an ignored SIGCHLD: then the kernel reaps children unseen,
        // and their ends are lost. A signal that is caught once stays caught; a caught signal,
        // unlike an ignored one, is default again in the nodes.
        drop(signal(SignalKind::child())?);
        let (requests, queue) = mpsc::channel::<(Launch, Spawner, Reply)>();
        std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            while let Ok((launch, keep, reply)) = queue.recv() {
                // A caller that went away drops the child, which kills it.
                let _ = reply.send(spawn(&launch, keep, &environment));
            }
        })?;
        Ok(Self { requests, pace, cpu: CpuTime::default() })
    }

    /// The pace of the machine that the children run on.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// The CPU time of the children that have ended.
    pub fn cpu(&self) -> &CpuTime {
        &self.cpu
    }

    /// Starts a process.
    ///
    /// # Errors
    /// The program cannot be executed, or the log cannot be opened.
    pub async fn spawn(&self, launch: Launch) -> anyhow::Result<Started> {
        let program = launch.program.clone();
        let (reply, answer) = oneshot::channel();
        self.requests.send((launch, self.clone(), reply)).map_err(|_| anyhow!("the spawning thread is gone"))?;
        let raw = answer
            .await
            .context("the spawning thread is gone")?
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stderr = raw.stderr.map(pipe::Receiver::from_owned_fd).transpose()?;
        Ok(Started { child: raw.child, stdout: pipe::Receiver::from_owned_fd(raw.stdout)?, stderr })
    }

    /// Runs a process to its end, and returns its output.
    ///
    /// # Errors
    /// It cannot be started, took longer than `bound`, stretched (it is killed then), or said more
    /// than `bytes_max`.
    pub async fn output(&self, launch: Launch, bound: Duration, bytes_max: u64) -> anyhow::Result<Output> {
        let program = launch.program.clone();
        let started = self.spawn(launch).await?;
        let run = async {
            let (stdout, stderr) =
                tokio::try_join!(read_all(Some(started.stdout), bytes_max), read_all(started.stderr, bytes_max))?;
            Ok(Output { ended: started.child.ended().await, stdout, stderr })
        };
        match self.pace.within(bound, run).await {
            Ok(output) => output,
            Err(bound) => bail!("expected {} to end within {bound}, and it did not", program.display()),
        }
    }
}

async fn read_all(pipe: Option<pipe::Receiver>, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(bytes_max + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() as u64 > bytes_max {
        bail!("expected at most {bytes_max} bytes of output, found more");
    }
    Ok(bytes)
}

fn spawn(launch: &Launch, keep: Spawner, environment: &Environment) -> io::Result<Raw> {
    let mut command = Command::new(&launch.program);
    // A group of its own: a Ctrl-C on the terminal is meant for the harness, which then ends its
    // children.
    command.args(&launch.args).process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
    command.env_clear().envs(environment.variables());
    match &launch.diagnostics {
        Diagnostics::Log(log) => command.stderr(open_log(log)?),
        Diagnostics::Full => command.stderr(OpenOptions::new().write(true).open("/dev/full")?),
        Diagnostics::Pipe => command.stderr(Stdio::piped()),
    };
    begin_clean(&mut command);
    if let Some(limit) = launch.nofile {
        limit_open_files(&mut command, limit);
    }
    let mut started = command.spawn()?;
    let pid = i32::try_from(started.id()).map(Pid::from_raw).map_err(io::Error::other)?;
    let stdout = started.stdout.take().map(OwnedFd::from).ok_or(io::ErrorKind::BrokenPipe)?;
    let stderr = started.stderr.take().map(OwnedFd::from);
    Ok(Raw { child: Child::adopt(pid, keep)?, stdout, stderr })
}

/// Opens the log at its end, and takes room for a child's last words on a full disk.
fn open_log(path: &Path) -> io::Result<File> {
    let log = OpenOptions::new().create(true).append(true).open(path)?;
    let end = i64::try_from(log.metadata()?.len()).map_err(io::Error::other)?;
    match fallocate(&log, FallocateFlags::FALLOC_FL_KEEP_SIZE, end, limits::LAST_WORDS_BYTES as i64) {
        // If no room can be taken, a child writes as long as there is some.
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(log),
        Err(error) => Err(error.into()),
    }
}
