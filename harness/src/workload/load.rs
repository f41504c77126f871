//! The load of one cluster over a whole run: it ends when the cluster is restored, and another one
//! begins.

use super::{Workload, WorkloadOptions};
use crate::endpoints::Board;
use crate::seed::Seed;
use ninelives_oracle::Ledger;
use std::sync::Arc;

/// Numbers of clients between one restore and the next: more than a load and its readers take.
const CLIENTS_STRIDE: u32 = 1_000;

/// The running load, and the settings of the next one.
pub struct Load<'a> {
    /// `None` once it was stopped.
    running: &'a mut Option<Workload>,
    options: WorkloadOptions,
    seed: Seed,
    /// Milliseconds for which the stopped loads had run.
    ran_ms: u64,
}

impl<'a> Load<'a> {
    /// `options`: those with which the running load was started.
    pub fn new(running: &'a mut Option<Workload>, options: WorkloadOptions, seed: Seed) -> Self {
        Self { running, options, seed, ran_ms: 0 }
    }

    /// Milliseconds for which the load ran until now.
    pub fn ran_ms(&self) -> u64 {
        self.ran_ms + self.running.as_ref().map_or(0, Workload::ran_ms)
    }

    /// Lets every client finish the operation that it is in, and start no other.
    ///
    /// # Errors
    /// A client panicked.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.ran_ms = self.ran_ms();
        match self.running.take() {
            Some(running) => running.stop().await,
            None => Ok(()),
        }
    }

    /// Starts the load of a cluster that was restored: with new clients, which draw differently,
    /// because they know nothing of the store.
    ///
    /// # Errors
    /// An endpoint is not a URI.
    pub async fn begin_anew(&mut self, at: (&[String], Board), ledger: Arc<Ledger>) -> anyhow::Result<()> {
        self.options.restored += 1;
        self.options.first_client += CLIENTS_STRIDE;
        *self.running = Some(Workload::start(&self.options, at, &self.seed, ledger).await?);
        Ok(())
    }

    /// The load that is still running when the run ends.
    pub fn into_running(self) -> &'a mut Option<Workload> {
        self.running
    }
}
