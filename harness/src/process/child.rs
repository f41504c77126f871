//! One child process: its state, as events, and signals to it.
//!
//! A thread per child waits on its pidfd, for stops and continuations as well as for its end, and
//! publishes each change in a `watch` channel. The harness notes each signal *before* it sends it,
//! so that it can tell an end by a foreign signal apart: the OOM killer's, or a stranger's.

use super::cpu::{self, CpuTime};
use ninelives_evidence::ended::Ended;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use rustix::process::{Pid as RawPid, PidfdFlags, Signal as RawSignal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// The state of a process, as the kernel tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signals {
    /// It stands still.
    pub stopped: bool,
    /// It is dead, and reaped.
    pub ended: Option<Ended>,
}

/// A child process. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: Arc<OwnedFd>,
    kill_sent: Arc<AtomicBool>,
    state: watch::Receiver<Signals>,
    /// Keeps the thread alive with which this child would die.
    _spawner: super::Spawner,
}

impl Child {
    /// Takes over the child `pid`, which must be unreaped; no other code may reap it.
    pub(super) fn adopt(pid: Pid, spawner: super::Spawner) -> io::Result<Self> {
        let raw = RawPid::from_raw(pid.as_raw()).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = Arc::new(pidfd_open(raw, PidfdFlags::empty())?);
        let kill_sent = Arc::new(AtomicBool::new(false));
        let (publish, state) = watch::channel(Signals::default());
        let (cpu, kill) = (spawner.cpu().clone(), Arc::clone(&kill_sent));
        let waiter = Waiter { pid, pidfd: Arc::clone(&pidfd), cpu, kill_sent: kill, publish };
        std::thread::Builder::new().name(format!("wait-{pid}")).spawn(move || waiter.run())?;
        Ok(Self { pid, pidfd, kill_sent, state, _spawner: spawner })
    }

    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    pub fn state(&self) -> Signals {
        *self.state.borrow()
    }

    /// A receiver that is woken at every change.
    pub fn subscribe(&self) -> watch::Receiver<Signals> {
        self.state.clone()
    }

    /// Sends SIGKILL. A child that is already dead is not an error: its end tells whether this
    /// signal caused it.
    pub fn kill(&self) -> io::Result<()> {
        self.kill_sent.store(true, Ordering::SeqCst);
        self.signal(RawSignal::KILL)
    }

    /// Lets a stopped child go on.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(RawSignal::CONT)
    }

    /// A handle that stops this child and lets it go on, and does nothing else; it keeps no child
    /// alive.
    pub fn pauser(&self) -> Pauser {
        Pauser { pidfd: Arc::clone(&self.pidfd), state: self.state.clone() }
    }

    fn signal(&self, signal: RawSignal) -> io::Result<()> {
        send(&self.pidfd, signal)
    }

    /// The threads of the child that the kernel still has, in words: how many are in which state,
    /// and where in the kernel they wait. It tells a child that cannot die from one that was never
    /// reaped.
    pub fn threads_in_words(&self) -> String {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid));
        let mut states: BTreeMap<String, u32> = BTreeMap::new();
        for task in tasks.into_iter().flatten().flatten() {
            // A thread may end between the listing and the reading; then it counts as `?`.
            let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let (stat, place) = (read("stat"), read("wchan"));
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?');
            let place = if matches!(place.as_str(), "" | "0") { String::new() } else { format!(" in {place}") };
            *states.entry(format!("{state}{place}")).or_default() += 1;
        }
        let words: Vec<_> = states.into_iter().map(|(state, count)| format!("{count} × {state}")).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    }

    /// Processor time that the child has taken so far, in user space and in the kernel, by all of
    /// its threads, milliseconds; 0: it is gone.
    pub fn cpu_ms(&self) -> u64 {
        cpu::ms_of(self.pid)
    }

    /// Waits until the child is dead and reaped.
    pub async fn ended(&self) -> Ended {
        let mut state = self.state.clone();
        loop {
            if let Some(ended) = state.borrow_and_update().ended {
                return ended;
            }
            if state.changed().await.is_err() {
                // The waiter publishes an end before it goes, whatever happens to it.
                return self.state().ended.unwrap_or(Ended::Unknown);
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.state().ended.is_none() {
            let _ = self.kill();
        }
    }
}

/// Sends `signal`; that the process is dead already is not an error. Pidfds are opened and
/// signalled through `rustix`, because `nix` has no calls for them.
fn send(pidfd: &OwnedFd, signal: RawSignal) -> io::Result<()> {
    match pidfd_send_signal(pidfd, signal) {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Stops a child and lets it go on.
#[derive(Debug, Clone)]
pub struct Pauser {
    pidfd: Arc<OwnedFd>,
    state: watch::Receiver<Signals>,
}

impl Pauser {
    pub fn stop(&self) -> io::Result<()> {
        send(&self.pidfd, RawSignal::STOP)
    }

    pub fn resume(&self) -> io::Result<()> {
        send(&self.pidfd, RawSignal::CONT)
    }

    /// Waits until it stands still (or goes on, as `stopped` says); `false`: it is dead.
    pub async fn stands_still(&self, stopped: bool) -> bool {
        let mut state = self.state.clone();
        // Without the waiter the state is unknown, so the child counts as dead.
        let there = state.wait_for(|state| state.stopped == stopped || state.ended.is_some()).await;
        there.is_ok_and(|state| state.ended.is_none())
    }
}

struct Waiter {
    pid: Pid,
    pidfd: Arc<OwnedFd>,
    cpu: CpuTime,
    kill_sent: Arc<AtomicBool>,
    publish: watch::Sender<Signals>,
}

impl Waiter {
    fn run(self) {
        let ended = loop {
            let options = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WCONTINUED;
            let wait = |how| waitid(Id::PIDFd(self.pidfd.as_fd()), options | how);
            // A look first: once it is reaped, the kernel has forgotten its CPU time.
            if let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) = wait(WaitPidFlag::WNOWAIT) {
                self.cpu.add(self.pid);
            }
            match wait(WaitPidFlag::WNOHANG) {
                Ok(WaitStatus::Exited(_, code)) => break Ended::Exited(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => break self.ended_by(signal),
                Ok(WaitStatus::Stopped(..)) => self.publish.send_modify(|state| state.stopped = true),
                Ok(WaitStatus::Continued(_)) => self.publish.send_modify(|state| state.stopped = false),
                // The harness does not trace any child.
                Ok(WaitStatus::PtraceEvent(..) | WaitStatus::PtraceSyscall(_) | WaitStatus::StillAlive)
                | Err(Errno::EINTR) => {}
                // Another thread reaped it, or the kernel did because SIGCHLD is ignored, or it
                // ended by a real-time signal: that must not lead to a verdict.
                Err(_) => break Ended::Unknown,
            }
        };
        self.publish.send_modify(|state| *state = Signals { stopped: false, ended: Some(ended) });
    }

    fn ended_by(&self, signal: Signal) -> Ended {
        let ours = signal == Signal::SIGKILL && self.kill_sent.load(Ordering::SeqCst);
        if ours { Ended::KilledByUs(signal as i32) } else { Ended::KilledByOther(signal as i32) }
    }
}
