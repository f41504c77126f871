//! One crash state, tried: materialised, looked at, and its member started on it alone.

use crate::cluster::{Kept, Member, Site};
use crate::faultfs::{Crash, State};
use crate::inspect::{inspect, remove_dir};
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
use std::sync::{Mutex, PoisonError};

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
    scratch: PathBuf,
    /// Digests of the states that were made here.
    seen: Mutex<HashSet<[u8; 32]>>,
}

/// A state that was tried.
#[derive(Debug)]
pub struct Tried {
    pub lost: Lost,
    pub findings: Vec<Finding>,
}

impl<'a> Bench<'a> {
    /// `None`: the target's dead directories cannot be read, or no cut of this member was kept.
    pub fn of(site: &'a Site, member: &'a Member) -> Option<Self> {
        let (inspector, kept) = (site.target.inspector()?, member.kept()?);
        let scratch = site.paths.states(member.id);
        Some(Self { site, member, kept, inspector, scratch, seen: Mutex::default() })
    }

    pub fn kept(&self) -> &Kept {
        self.kept
    }

    /// Tries a state, in the `place`-th place. `None`: an equal one was tried here before.
    ///
    /// # Errors
    /// The harness could not do its part.
    pub async fn try_new(&self, place: usize, crash: &Crash, depth: Depth) -> anyhow::Result<Option<Tried>> {
        let at = self.scratch.join(place.to_string());
        let state = self.materialise(crash, &at).await?;
        let is_new = self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(state.digest);
        Ok(if is_new { Some(self.judge(state, &at, depth).await?) } else { None })
    }

    /// Tries a state, in a place of its own.
    ///
    /// # Errors
    /// As of [`Bench::try_new`].
    pub async fn try_one(&self, crash: &Crash, depth: Depth) -> anyhow::Result<Tried> {
        let at = self.scratch.join("one");
        let state = self.materialise(crash, &at).await?;
        self.judge(state, &at, depth).await
    }

    /// Removes what was made here.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn clear(&self) -> anyhow::Result<()> {
        remove_dir(&self.scratch)
    }

    async fn materialise(&self, crash: &Crash, at: &Path) -> anyhow::Result<State> {
        let (instant, crash, at) = (self.kept.instant.clone(), crash.clone(), at.to_owned());
        let made = move || {
            std::fs::create_dir_all(at.parent().unwrap_or(&at))?;
            instant.materialise(&crash, &at)
        };
        tokio::task::spawn_blocking(made).await.context("the thread that makes crash states panicked")?
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
