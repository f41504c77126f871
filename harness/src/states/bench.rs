//! One crash state, tried: materialised, looked at, and its member started on it alone.

use crate::cluster::{Kept, Member, Site};
use crate::faultfs::{Crash, Instant, Scratch, State};
use crate::inspect::inspect;
use crate::process::{Launch, last_line};
use anyhow::{Context, bail};
use ninelives_evidence::Recovered;
use ninelives_evidence::ended::Ended;
use ninelives_evidence::limits;
use ninelives_evidence::power::Lost;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Members;
use ninelives_oracle::alone::{check_left, check_started};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How far a state is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The inspector looks at the directory.
    Look,
    /// And its member starts on it, alone.
    Start,
}

/// The place where states of one member's instant are tried.
pub struct Bench<'a> {
    site: &'a Site,
    member: &'a Member,
    kept: &'a Kept,
    inspector: &'a Path,
    /// The instant, where the states are made of it.
    instant: Arc<Instant>,
    /// Digests of the states that were asked for here.
    seen: Arc<Mutex<HashSet<[u8; 32]>>>,
    /// Declared after the instant, which lies in it.
    scratch: Scratch,
}

/// A state that was tried.
#[derive(Debug)]
pub struct Tried {
    pub lost: Lost,
    pub findings: Vec<Finding>,
}

impl<'a> Bench<'a> {
    /// `None`: the target's dead directories cannot be read, or no cut of this member was kept.
    ///
    /// # Errors
    /// States cannot be made anywhere.
    pub fn of(site: &'a Site, member: &'a Member) -> anyhow::Result<Option<Self>> {
        let Some((inspector, kept)) = site.target.inspector().zip(member.kept()) else { return Ok(None) };
        let scratch = Scratch::at(&site.paths.states(member.id))?;
        let instant = Arc::new(kept.instant.copied_to(&scratch.path().join("instant"))?);
        Ok(Some(Self { site, member, kept, inspector, instant, seen: Arc::default(), scratch }))
    }

    pub fn kept(&self) -> &Kept {
        self.kept
    }

    /// The instant of the cut.
    pub fn instant(&self) -> &Instant {
        &self.instant
    }

    /// Whether the states are made in memory.
    pub fn is_in_memory(&self) -> bool {
        self.scratch.is_in_memory()
    }

    /// Tries a state, in the `place`-th place. `None`: an equal one was tried here before.
    ///
    /// # Errors
    /// The harness could not do its part.
    pub async fn try_new(&self, place: usize, crash: &Crash, depth: Depth) -> anyhow::Result<Option<Tried>> {
        let (instant, seen, crash, at) =
            (Arc::clone(&self.instant), Arc::clone(&self.seen), crash.clone(), self.place(&place.to_string()));
        let made = off_the_runtime(move || {
            let effect = instant.effect(&crash)?;
            let is_new = seen.lock().unwrap_or_else(PoisonError::into_inner).insert(effect);
            is_new.then(|| Ok((instant.materialise(&crash, &at)?, at))).transpose()
        });
        match made.await? {
            Some((state, at)) => Ok(Some(self.judge(state, &at, depth).await?)),
            None => Ok(None),
        }
    }

    /// Tries a state, in a place of its own.
    ///
    /// # Errors
    /// As of [`Bench::try_new`].
    pub async fn try_one(&self, crash: &Crash, depth: Depth) -> anyhow::Result<Tried> {
        let (instant, crash, at) = (Arc::clone(&self.instant), crash.clone(), self.place("one"));
        let made = off_the_runtime(move || Ok((instant.materialise(&crash, &at)?, at)));
        let (state, at) = made.await?;
        self.judge(state, &at, depth).await
    }

    /// Removes what was made here.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn clear(self) -> anyhow::Result<()> {
        self.scratch.remove()
    }

    fn place(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    async fn judge(&self, state: State, at: &Path, depth: Depth) -> anyhow::Result<Tried> {
        let known = &self.kept.known;
        let copy = at.join("look");
        let dead = inspect(&self.site.spawner, self.inspector, &state.data_dir, &copy).await?.dead;
        let mut findings = check_left(known, &dead);
        if depth == Depth::Start && findings.is_empty() {
            findings = match self.start(&state.data_dir).await? {
                Ok(recovered) => check_started(known, &dead, &recovered),
                Err((ended, remark)) => {
                    let what = Members::RefusedToStart { member: known.member, ended, remark };
                    vec![Finding::new(what).in_cycle(known.cycle).at_member(known.member)]
                }
            };
        }
        Ok(Tried { lost: state.lost, findings })
    }

    /// Starts the member alone. `Err`: it refused, with these last words.
    async fn start(&self, data_dir: &Path) -> anyhow::Result<Result<Recovered, (Ended, Option<String>)>> {
        let Some(args) = self.member.recover_args(self.site, data_dir) else {
            bail!("expected a target whose members can be started alone, found none");
        };
        let binary = self.site.target.binary();
        let output =
            self.site.spawner.output(Launch::new(binary, args), limits::START_ALONE, limits::START_ALONE_BYTES_MAX);
        let output = output.await?;
        if !output.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Ok(Err((output.ended, last_line(&words).map(str::to_owned))));
        }
        let recovered = serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "expected one JSON object from `{} serve --recover-only`, found {:?}",
                binary.display(),
                output.text()
            )
        })?;
        Ok(Ok(recovered))
    }
}

async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("the thread that makes crash states panicked")?
}
