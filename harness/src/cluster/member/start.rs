//! The beginning of a life: starting the program, and following its applied index.

use super::ask::note;
use super::window::is_of_files;
use super::{Life, Member};
use crate::cluster::{Site, Trouble};
use crate::contact::Contact;
use crate::process::Launch;
use crate::subject::events::{self, NodeState};
use crate::subject::{self, Origin};
use anyhow::{Context, anyhow};
use ninelives_evidence::limits;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

impl Member {
    /// The arguments that make its program recover on `data_dir`, alone, and end; `None`: it
    /// cannot.
    pub fn recover_args(&self, site: &Site, data_dir: &Path) -> Option<Vec<OsString>> {
        let origin = if self.joined { Origin::Joined } else { Origin::Founder(&site.founders) };
        let (id, engine, at) = (self.id, self.engine, self.addresses);
        site.target.recover_args(&subject::Life { id, engine, at, data_dir, origin, arm: None, detours: &[] })
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
}

/// Says in the log of a life that cannot write there why it holds nothing else.
fn explain_the_silence(log: &Path) -> io::Result<()> {
    let mut log = File::options().create(true).append(true).open(log)?;
    log.write_all(b"(`cluster.full_logs` names this slot: standard error was a device that takes nothing)\n")
}
