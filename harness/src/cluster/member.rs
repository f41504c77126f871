//! One member (an id in a slot) and its lives.
//!
//! While it is up, a task follows its applied index, because the highest index *received* before a
//! kill is the harness's own evidence of what there was to lose. Every request is raced against the
//! process's end, so that a death is reported as a death and not as a timeout.

use super::kept::Kept;
use super::pause::Paused;
use super::readings::Readings;
use super::{Site, Trouble};
use crate::contact::{Contact, KvLook, Standing};
use crate::endpoints::Board;
use crate::faultfs::{Access, Ailing, Disk, Gate, Mount};
use crate::pace::Pace;
use crate::plan::Ailment;
use crate::process::{Child, Launch, Signals};
use crate::seed::Stream;
use crate::subject::events::{self, NodeState};
use crate::subject::{self, Addresses, FileOperation, Origin, Window};
use anyhow::{Context, anyhow};
use ninelives_evidence::ended::Ended;
use ninelives_evidence::member::{Engine, Slot};
use ninelives_evidence::power::{Lost, Names};
use ninelives_evidence::stretched::Stretched;
use ninelives_evidence::{FenceAnswer, Recovered};
use ninelives_evidence::{clock, limits};
use ninelives_oracle::alone::Known;
use std::ffi::OsString;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

/// A member, dead or alive.
#[derive(Debug)]
pub struct Member {
    pub id: u64,
    pub slot: Slot,
    /// The engine that its next life runs.
    pub engine: Engine,
    pub addresses: Addresses,
    /// It was added to the running cluster.
    joined: bool,
    lives: u64,
    life: Option<Life>,
    /// The mount over its data directory; declared after the life, because a process dies before
    /// its disk goes. `None`: a plain directory.
    files: Option<Mount>,
    /// Its last cut.
    kept: Option<Kept>,
    /// Highest applied index ever received from it, plus one; 0: none.
    applied: Arc<AtomicU64>,
    /// Readings that it gave of itself since the last judgement.
    pub readings: Readings,
    /// The length of its log file when its life began, in bytes.
    log_from: u64,
}

#[derive(Debug)]
struct Life {
    child: Child,
    said: watch::Receiver<NodeState>,
    contact: Contact,
    board: Board,
    /// The pace by which bounds on it are stretched.
    pace: Pace,
    follower: Option<JoinHandle<()>>,
    /// Windows in which it stood still and went on again.
    windows_left: Arc<AtomicU64>,
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(follower) = &self.follower {
            follower.abort();
        }
    }
}

/// Result of a wait for a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    AtWindow,
    /// The life ended before.
    Ended,
}

/// The end of a life by our kill.
#[derive(Debug, Clone, Copy)]
pub struct Death {
    pub at: Instant,
    /// Highest applied index received before the kill.
    pub applied_received: Option<u64>,
    pub ended: Ended,
}

impl Member {
    /// A member that founds the cluster: its id is the number of its slot.
    pub fn founder(id: u64, addresses: Addresses, engine: Engine) -> Self {
        Self {
            id,
            slot: Slot(id),
            engine,
            addresses,
            joined: false,
            lives: 0,
            life: None,
            files: None,
            kept: None,
            applied: Arc::default(),
            readings: Readings::default(),
            log_from: 0,
        }
    }

    /// [`Member::founder`] in a slot that had other members before.
    pub fn founder_in(slot: Slot, id: u64, addresses: Addresses, engine: Engine) -> Self {
        Self { slot, ..Self::founder(id, addresses, engine) }
    }

    /// Forgets its applied index: its cluster is gone, and so are the entries that it had applied.
    pub(super) fn forget_applied(&mut self) {
        self.applied = Arc::default();
    }

    /// A member that is added to the running cluster, in `slot`.
    pub fn joiner(slot: Slot, id: u64, addresses: Addresses, engine: Engine) -> Self {
        Self { id, slot, joined: true, ..Self::founder(id, addresses, engine) }
    }

    /// A member that lived before, under a harness that is dead: it starts from the directory that
    /// a kill left.
    pub fn returning(self) -> Self {
        Self { lives: 1, ..self }
    }

    pub fn is_up(&self) -> bool {
        self.life.is_some()
    }

    /// Its endpoint's place on the board.
    fn place(&self) -> usize {
        self.slot.0.saturating_sub(1) as usize
    }

    /// Highest applied index ever received from it, plus one, as it moves.
    pub fn applied_follower(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.applied)
    }

    /// Highest applied index ever received from it; 0 if none was.
    pub fn applied_received(&self) -> u64 {
        self.applied.load(Ordering::Acquire).saturating_sub(1)
    }

    /// Puts its data directory under the fault filesystem, for all its lives. `names`: what is not
    /// synced can be lost.
    ///
    /// # Errors
    /// This machine, or this user, lacks FUSE.
    pub(super) fn mount(&mut self, site: &Site, names: Option<Names>) -> anyhow::Result<()> {
        self.files = Some(Mount::over(&site.paths.node_data(self.id), names)?);
        Ok(())
    }

    /// Puts its data directory where that of `before`, the member that had its slot, was: under the
    /// fault filesystem or not.
    ///
    /// # Errors
    /// The directory cannot be mounted.
    pub(super) fn mount_like(&mut self, site: &Site, before: &Member) -> anyhow::Result<()> {
        before.files.as_ref().map_or(Ok(()), |files| self.mount(site, files.names()))
    }

    /// Lets nothing more reach its disk: the power is about to fail.
    pub fn freeze(&self) {
        if let Some(gate) = self.gate() {
            gate.freeze();
        }
    }

    /// Lets the power fail under it, after its death: each change that was not synced survives with
    /// a chance of `keep_percent`. If its dead directories can be read, the instant is kept in the
    /// place of the one before. `known`: what was known of it by then; `None`: the one before
    /// stays.
    ///
    /// # Errors
    /// Its directory is not one that can lose anything, or the disk below has failed.
    pub fn cut(
        &mut self,
        site: &Site,
        (keep_percent, draws): (u32, &mut Stream),
        known: Option<Known>,
    ) -> Result<Lost, Trouble> {
        if known.is_some() {
            // Its directory becomes that of the next one.
            self.kept = None;
        }
        let files = self.files.as_mut().filter(|_| self.life.is_none());
        let files = files.ok_or_else(|| {
            anyhow!("the power of n{} is to fail: expected a dead member, under the fault filesystem", self.id)
        })?;
        let keep_at = site.target.inspector().and(known).map(|_| site.paths.instant(self.id));
        let (lost, instant) = files.cut((keep_percent, draws), keep_at.as_deref())?;
        if let Some((known, instant)) = known.zip(instant) {
            self.kept = Some(Kept::new(known, instant));
        }
        Ok(lost)
    }

    /// The instant of its last cut.
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    #[cfg(test)]
    pub fn keep(&mut self, kept: Kept) {
        self.kept = Some(kept);
    }

    pub fn kept_mut(&mut self) -> Option<&mut Kept> {
        self.kept.as_mut()
    }

    /// The arguments that make its program recover on `data_dir`, alone, and end; `None`: it
    /// cannot.
    pub fn recover_args(&self, site: &Site, data_dir: &Path) -> Option<Vec<OsString>> {
        let origin = if self.joined { Origin::Joined } else { Origin::Founder(&site.founders) };
        let (id, engine, at) = (self.id, self.engine, self.addresses);
        site.target.recover_args(&subject::Life { id, engine, at, data_dir, origin, arm: None, detours: &[] })
    }

    /// Lets a command work on its files while it is dead.
    pub fn open_files(&self) {
        if let Some(gate) = self.gate() {
            // A command says itself where it stands still.
            gate.open(watch::channel(NodeState::default()).0);
        }
    }

    /// The command has ended, or been killed: nothing of it reaches the disk any more.
    pub fn close_files(&self) {
        if let Some(gate) = self.gate() {
            gate.refuse();
        }
    }

    /// The place where the harness reads its data directory while it is dead.
    pub fn dead_directory(&self, site: &Site) -> PathBuf {
        self.files.as_ref().and_then(Mount::below).unwrap_or_else(|| site.paths.node_data(self.id))
    }

    /// Has its disk fail, until what is returned is dropped; `draws`: the delays of one that is
    /// slow, and the parts of writes.
    ///
    /// # Errors
    /// Its directory is not under the fault filesystem.
    pub fn ail(&self, ailment: Ailment, draws: Stream) -> Result<Ailing, Trouble> {
        let disk = self
            .disk()
            .ok_or_else(|| anyhow!("the disk of n{} is to fail: expected it under the fault filesystem", self.id))?;
        Ok(match ailment {
            Ailment::Fill { left_kib, .. } => disk.fill(left_kib << 10),
            Ailment::Slow { by_ms, .. } => disk.slow(by_ms, draws),
            Ailment::FailSync { losing } => disk.fail_sync(losing),
            Ailment::Fail { operation, hit, ms } => disk.fail(access(operation)?, (hit, ms == 0), draws),
            Ailment::Shorten { operation, .. } => disk.shorten(access(operation)?, draws),
        })
    }

    /// The state of its process, as it changes in this life.
    pub fn process(&self) -> Result<watch::Receiver<Signals>, Trouble> {
        Ok(self.life()?.child.subscribe())
    }

    /// Its end in this life, if its disk was made to give it an error that explains it.
    pub fn ended_of_its_disk(&self) -> Option<Ended> {
        let life = self.life.as_ref()?;
        life.child.state().ended.filter(|ended| self.may_end(life)(*ended))
    }

    /// True if the fault filesystem, and not the machine, refused this life room.
    pub fn was_refused_room(&self) -> bool {
        self.disk().is_some_and(|disk| disk.refused_room())
    }

    /// True if it lives although a write of this life failed or was cut short: only a next life
    /// reads what is on its disk.
    pub fn outlived_a_write(&self) -> bool {
        self.is_up() && self.disk().is_some_and(|disk| disk.wrote_less())
    }

    /// The ends that an error of its disk, which it was made to give, explains.
    fn may_end(&self, life: &Life) -> impl Fn(Ended) -> bool + use<> {
        let (disk, served) = (self.disk().cloned(), life.said.borrow().serving);
        move |ended| disk.as_ref().is_some_and(|disk| disk.excuses(ended, served))
    }

    /// The disk that it believes to have, under the fault filesystem.
    fn disk(&self) -> Option<&Arc<Disk>> {
        self.files.as_ref().map(Mount::disk)
    }

    /// The gate that its changes of files pass, if it has one.
    fn gate(&self) -> Option<&Arc<Gate>> {
        self.files.as_ref().map(Mount::gate)
    }

    /// Starts the next life, with a window armed from its first instruction on if `arm` says so.
    pub async fn start(&mut self, site: &Site, arm: Option<(&str, u64)>) -> Result<(), Trouble> {
        let data_dir = site.paths.node_data(self.id);
        if self.lives > 0 && !self.dead_directory(site).exists() {
            return Err(Trouble::Harness(anyhow!(
                "the data directory of n{} is gone: starting it again under its id would be amnesia, not recovery",
                self.id
            )));
        }
        let origin = if self.joined { Origin::Joined } else { Origin::Founder(&site.founders) };
        let (id, engine, at) = (self.id, self.engine, self.addresses);
        let detours = site.detours(self.slot);
        let (at_files, arm) =
            (arm.filter(|(window, _)| is_of_files(window)), arm.filter(|(window, _)| !is_of_files(window)));
        let life = subject::Life { id, engine, at, data_dir: &data_dir, origin, arm, detours: &detours };
        let args = site.target.serve_args(&life);
        let log = site.paths.node_log(self.id);
        self.log_from = std::fs::metadata(&log).map_or(0, |log| log.len());
        let launch = Launch::new(site.target.binary(), args).limit_open_files(site.nofile);
        let launch = match site.full_logs.contains(&self.slot) {
            true => {
                explain_the_silence(&log).with_context(|| format!("cannot write {}", log.display()))?;
                launch.with_full_diagnostics()
            }
            false => launch.log_to(&log),
        };
        site.board.set(self.place(), false);
        let (publish, said) = watch::channel(NodeState::default());
        if let Some(gate) = self.gate() {
            gate.open(publish.clone());
        }
        if let Some((window, hit)) = at_files {
            self.arm_gate(window, hit)?;
        }
        if let Some(disk) = self.disk() {
            disk.begin_life();
        }
        let started = site.spawner.spawn(launch).await?;
        let contact = Contact::with(&site.target, id, at).await?;
        self.lives += 1;
        self.readings.begin(self.lives);
        events::follow(started.stdout, publish);
        let (child, board, pace) = (started.child, site.board.clone(), site.pace().clone());
        self.life = Some(Life { child, said, contact, board, pace, follower: None, windows_left: Arc::default() });
        Ok(())
    }

    /// Waits until it serves, then follows its applied index.
    pub async fn wait_serving(&mut self, bound: Duration) -> Result<(), Trouble> {
        let life = self.life()?;
        let serving = life.contact.serves(life.said.clone());
        match self.or_death(life.pace.within(bound, serving)).await? {
            Ok(true) => {}
            Ok(false) => return Err(self.trouble_of_a_broken_pipe().await),
            Err(bound) => return Err(self.late("serve", bound)),
        }
        self.life()?.board.set(self.place(), true);
        self.follow_applied();
        Ok(())
    }

    fn follow_applied(&mut self) {
        let (applied, readings) = (Arc::clone(&self.applied), self.readings.clone());
        if let Some(life) = &mut self.life {
            let contact = life.contact.clone();
            life.follower = Some(tokio::spawn(async move {
                let (mut index, mut asked) = (0, readings.ask());
                // The first error ends the follower, and the next life gets its own. The index is a
                // lower bound either way.
                while let Ok(status) = contact.wait_applied(index).await {
                    readings.answered(asked, &contact.testimony(&status));
                    note(&applied, status.applied);
                    index = status.applied.unwrap_or(0) + limits::APPLIED_STRIDE;
                    asked = readings.ask();
                }
            }));
        }
    }

    /// Kills it, if it is up, and waits until it is dead. It may have ended by itself, of its disk.
    /// `None`: it was down.
    pub async fn kill(&mut self) -> Option<Result<Death, Trouble>> {
        let may_end = self.may_end(self.life.as_ref()?);
        self.kill_unless(may_end).await
    }

    /// [`Member::kill`] for a member that was removed from its cluster. It may have learnt that and
    /// ended by itself.
    pub async fn kill_removed(&mut self) -> Option<Result<Death, Trouble>> {
        self.kill_unless(|ended| ended == Ended::Exited(0)).await
    }

    /// [`Member::kill`] for a member that may have ended by itself for any reason: its end, and
    /// whether it had begun to serve.
    pub async fn end(&mut self) -> Result<Option<(Ended, bool)>, Trouble> {
        let served = self.life.as_ref().is_some_and(|life| life.said.borrow().serving);
        let death = self.kill_unless(|_| true).await.transpose()?;
        Ok(death.map(|death| (death.ended, served)))
    }

    async fn kill_unless(&mut self, may_end: impl Fn(Ended) -> bool) -> Option<Result<Death, Trouble>> {
        let life = self.life.take()?;
        life.board.set(self.place(), false);
        let applied_received = self.applied.load(Ordering::Acquire).checked_sub(1);
        if let Err(error) = life.child.kill() {
            return Some(Err(Trouble::Harness(anyhow!("cannot signal n{}: {error}", self.id))));
        }
        if let Some(gate) = self.gate() {
            // The requests are answered only now, so that no process can act on the answers.
            // Without answers it could not die.
            gate.refuse();
        }
        let Ok(ended) = life.pace.within(limits::DEATH, life.child.ended()).await else {
            let bound = limits::DEATH;
            return Some(Err(Trouble::Harness(anyhow!(
                "n{} did not end within {bound:?} of a SIGKILL: is its disk stuck? its threads by state: {}",
                self.id,
                life.child.threads_in_words()
            ))));
        };
        match ended {
            _ if may_end(ended) => Some(Ok(Death { at: clock::now(), applied_received, ended })),
            Ended::KilledByUs(_) => Some(Ok(Death { at: clock::now(), applied_received, ended })),
            _ => Some(Err(self.died(&life, ended))),
        }
    }

    /// Becomes ready when it stands still in `window`, or ends. It borrows nothing, so the caller
    /// can act on other members meanwhile.
    pub fn stop(&self, window: &str) -> impl Future<Output = Stop> + use<> {
        let life = self
            .life
            .as_ref()
            .map(|life| (life.child.subscribe(), life.said.clone(), life.windows_left.load(Ordering::Acquire)));
        let (window, of_files) = (window.to_owned(), is_of_files(window));
        async move {
            let Some((mut state, mut said, left)) = life else { return Stop::Ended };
            // The name is checked first, then the stop, because a pause is a stop as well, and the
            // member has left earlier windows.
            let here = |said: &NodeState| {
                let now = if of_files { said.held } else { said.windows > left };
                now && said.window.as_ref().is_some_and(|(at, _)| *at == window)
            };
            let named = said.wait_for(|said| said.closed || here(said)).await.is_ok_and(|said| here(&said));
            // A process that waits for its filesystem is not stopped, but goes no further either.
            let stands = |state: &Signals| of_files || state.stopped || state.ended.is_some();
            let still = named && state.wait_for(stands).await.is_ok();
            if still && state.borrow().ended.is_none() { Stop::AtWindow } else { Stop::Ended }
        }
    }

    /// Stops it, and waits until it stands still; at a window it may stand still already.
    pub async fn pause(&self) -> Result<Paused, Trouble> {
        let life = self.life()?;
        let gate = self.gate().cloned();
        let paused = Paused::stop(life.child.pauser(), life.said.clone(), Arc::clone(&life.windows_left), gate);
        let mut paused = paused.with_context(|| format!("cannot stop n{}", self.id))?;
        match self.or_death(life.pace.within(limits::DEATH, paused.stopped())).await? {
            Ok(true) => Ok(paused),
            Ok(false) => Err(self.died(life, life.child.ended().await)),
            Err(_) => {
                Err(Trouble::Harness(anyhow!("n{} does not stand still after a SIGSTOP: is its disk stuck?", self.id)))
            }
        }
    }

    /// Whether it has served in this life, and its applied index is followed.
    pub fn is_serving(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.follower.is_some())
    }

    pub fn is_stopped(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.child.state().stopped || life.said.borrow().held)
    }

    /// Arms `window` for its `hit`-th pass from now; 0 disarms it.
    pub async fn arm(&self, window: &str, hit: u64) -> Result<(), Trouble> {
        if is_of_files(window) {
            return self.arm_files(window, hit).await;
        }
        let window = window.to_owned();
        let arm = |contact: Contact| async move { contact.arm(&window, hit).await };
        self.ask("arm a window", limits::CONTROL_REQUEST, arm).await
    }

    /// Arms a window of its files. Disarming takes effect at once: the member stands still there
    /// already, and has said so, or does not stop there any more.
    async fn arm_files(&self, window: &str, hit: u64) -> Result<(), Trouble> {
        let gate = self.arm_gate(window, hit)?;
        if hit == 0 && gate.is_holding() {
            let mut said = self.life()?.said.clone();
            let told = async { said.wait_for(|said| said.held).await.map(drop) };
            // Without a sender the member is dead; the next request finds that out.
            let _ = self.or_death(told).await?;
        }
        Ok(())
    }

    /// Processor time that its process has taken, milliseconds; 0: it is dead.
    pub fn cpu_ms(&self) -> u64 {
        self.life.as_ref().map_or(0, |life| life.child.cpu_ms())
    }

    fn arm_gate(&self, window: &str, hit: u64) -> Result<&Arc<Gate>, Trouble> {
        let gate = self.gate().ok_or_else(|| {
            anyhow!("{window} is to be armed at n{}, whose files are not under the fault filesystem", self.id)
        })?;
        gate.arm(window, hit).map_err(|why| anyhow!(why))?;
        Ok(gate)
    }

    /// One reading, at once.
    pub async fn status(&self) -> Result<Standing, Trouble> {
        let ask = |contact: Contact| async move { contact.status().await };
        self.read("answer a status request", limits::CONTROL_REQUEST, ask).await
    }

    /// Waits until it has applied `index`.
    pub async fn wait_applied(&self, index: u64, bound: Duration) -> Result<Standing, Trouble> {
        let wait = |contact: Contact| async move { contact.wait_applied(index).await };
        self.read(&format!("apply index {index}"), bound, wait).await
    }

    /// Asks for its standing, and keeps the answer to be judged.
    async fn read<F>(&self, what: &str, bound: Duration, call: impl FnOnce(Contact) -> F) -> Result<Standing, Trouble>
    where
        F: Future<Output = Result<Standing, Status>>,
    {
        let asked = self.readings.ask();
        let status = self.ask(what, bound, call).await?;
        self.readings.answered(asked, &self.life()?.contact.testimony(&status));
        note(&self.applied, status.applied);
        Ok(status)
    }

    /// [`Member::wait_applied`] for a member that has to get there: if it does not, its own account
    /// may give the reason.
    pub async fn catch_up(&self, index: u64, bound: Duration) -> Result<(), Trouble> {
        match self.wait_applied(index, bound).await {
            Ok(_) => Ok(()),
            Err(late @ Trouble::Late { .. }) => Err(match self.status().await {
                Ok(account) => late.with_account(&account),
                Err(died @ Trouble::Died { .. }) => died,
                // A member too stuck to answer has no account.
                Err(_) => late,
            }),
            Err(trouble) => Err(trouble),
        }
    }

    /// This life's account of its recovery so far; `None`: the target gives no account.
    pub async fn recovery(&self) -> Result<Option<Recovered>, Trouble> {
        let ask = |contact: Contact| async move { contact.recovery().await };
        self.ask("answer for its recovery", limits::CONTROL_REQUEST, ask).await
    }

    /// Proposes a fence, and gives its raft index. `None`: refused or without an answer (no leader,
    /// an election); it may have been proposed all the same, which does not matter, because another
    /// fence follows.
    pub async fn propose_fence(&self, id: u64, bound: Duration) -> Result<Option<u64>, Trouble> {
        let Life { contact, pace, .. } = self.life()?;
        let proposed = pace.within(bound, contact.propose_fence(id));
        Ok(self.or_death(proposed).await?.ok().and_then(Result::ok))
    }

    /// Its own answer for the fence at `index`.
    pub async fn fence_answer(&self, index: u64, bound: Duration) -> Result<FenceAnswer, Trouble> {
        let what = format!("answer for the fence at index {index}");
        self.ask(&what, bound, |contact: Contact| async move { contact.fence_answer(index).await }).await
    }

    /// The newest revision of the cluster, by a linearizable read here. `None`: it does not answer
    /// now (no leader, an election).
    pub async fn newest_revision(&self, bound: Duration) -> Result<Option<u64>, Trouble> {
        let Life { contact, pace, .. } = self.life()?;
        let asked = pace.within(bound, contact.newest_revision());
        Ok(self.or_death(asked).await?.ok().and_then(Result::ok))
    }

    /// Its own state at `revision`, which it has applied. `None`: it has compacted that meanwhile.
    pub async fn look(&self, revision: u64, bound: Duration) -> Result<Option<KvLook>, Trouble> {
        let what = format!("show its state at revision {revision}");
        let look = |contact: Contact| async move {
            match contact.look(revision).await {
                Err(status) if status.code() == Code::OutOfRange => Ok(None),
                look => look.map(Some),
            }
        };
        self.ask(&what, bound, look).await
    }

    /// The last words of this life in its log; `None`: the log cannot be read.
    pub fn last_words(&self, site: &Site) -> Option<String> {
        let mut log = File::open(site.paths.node_log(self.id)).ok()?;
        let length = log.metadata().ok()?.len();
        log.seek(SeekFrom::Start(self.log_from.max(length.saturating_sub(limits::LAST_WORDS_READ)))).ok()?;
        let mut words = Vec::new();
        log.take(limits::LAST_WORDS_READ).read_to_end(&mut words).ok()?;
        Some(String::from_utf8_lossy(&words).into_owned())
    }

    /// Its end, if it ended without having been killed, and its disk does not explain that.
    pub fn stray_death(&self) -> Option<Trouble> {
        let life = self.life.as_ref()?;
        life.child.state().ended.filter(|ended| !self.may_end(life)(*ended)).map(|ended| self.died(life, ended))
    }

    async fn ask<T, F>(&self, what: &str, bound: Duration, call: impl FnOnce(Contact) -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let life = self.life()?;
        let call = call(life.contact.clone());
        match self.or_death(life.pace.within(bound, call)).await? {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => match self.death_news().await {
                Some(trouble) => Err(trouble),
                None => Err(Trouble::Harness(anyhow!("expected n{} to {what}, found: {status}", self.id))),
            },
            Err(bound) => Err(self.late(what, bound)),
        }
    }

    /// `future`'s output, unless the process ends first.
    async fn or_death<T>(&self, future: impl Future<Output = T>) -> Result<T, Trouble> {
        let life = self.life()?;
        tokio::select! {
            biased;
            output = future => Ok(output),
            ended = life.child.ended() => Err(self.died(life, ended)),
        }
    }

    /// Its end, if it ends within the time that such news may take. The caller asks after a broken
    /// connection.
    pub async fn death_news(&self) -> Option<Trouble> {
        let life = self.life.as_ref()?;
        let ended = life.pace.within(limits::DEATH_NEWS, life.child.ended()).await.ok()?;
        Some(self.died(life, ended))
    }

    /// The trouble of a member whose event pipe has closed: its death, as soon as that is known.
    pub async fn trouble_of_a_broken_pipe(&self) -> Trouble {
        match self.death_news().await {
            Some(trouble) => trouble,
            None => Trouble::Harness(anyhow!("n{} closed its event pipe and lives on", self.id)),
        }
    }

    fn life(&self) -> Result<&Life, Trouble> {
        self.life.as_ref().ok_or_else(|| Trouble::Harness(anyhow!("n{} is down, and was asked for something", self.id)))
    }

    fn late(&self, what: &str, bound: Stretched) -> Trouble {
        Trouble::Late { member: self.id, what: what.to_owned(), bound }
    }

    fn died(&self, life: &Life, ended: Ended) -> Trouble {
        let said = life.said.borrow();
        let (served, remark) = (said.serving, said.remark.clone());
        Trouble::Died { member: self.id, ended, served, lived_before: self.lives > 1, remark }
    }
}

fn is_of_files(window: &str) -> bool {
    subject::find_window(window).is_some_and(Window::is_of_files)
}

/// Says in the log of a life that cannot write there why it holds nothing else.
fn access(operation: &FileOperation) -> Result<Access, Trouble> {
    let known = Access::parse(operation.name);
    Ok(known.ok_or_else(|| anyhow!("the fault filesystem does not know {}", operation.name))?)
}

fn explain_the_silence(log: &Path) -> io::Result<()> {
    let mut log = File::options().create(true).append(true).open(log)?;
    log.write_all(b"(`cluster.full_logs` names this slot: standard error was a device that takes nothing)\n")
}

fn note(highest: &AtomicU64, applied: Option<u64>) {
    if let Some(applied) = applied {
        highest.fetch_max(applied + 1, Ordering::AcqRel);
    }
}
