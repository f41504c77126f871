//! A member that the harness has stopped.
//!
//! A SIGSTOP is a fault that the system cannot see coming and the member itself cannot see at all:
//! its clocks go on, its connections stay, and when it goes on it believes what it believed before.
//!
//! At a window of its files some of its threads wait for their filesystem, and no signal reaches
//! them: those threads stand still there, and the SIGSTOP stops the others. Later the member goes
//! on with the operation that it was about to do.

use crate::faultfs::Gate;
use crate::process::Pauser;
use crate::subject::events::NodeState;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// Lets the member go on when it is dropped.
#[derive(Debug)]
pub struct Paused {
    pauser: Pauser,
    said: watch::Receiver<NodeState>,
    windows_left: Arc<AtomicU64>,
    /// The gate at which its files may hold it.
    gate: Option<Arc<Gate>>,
    goes_on: bool,
}

impl Paused {
    /// Sends the SIGSTOP.
    pub(super) fn stop(
        pauser: Pauser,
        said: watch::Receiver<NodeState>,
        windows_left: Arc<AtomicU64>,
        gate: Option<Arc<Gate>>,
    ) -> io::Result<Self> {
        pauser.stop()?;
        Ok(Self { pauser, said, windows_left, gate, goes_on: false })
    }

    /// Waits until the member stands still; `false`: it is dead.
    pub(super) async fn stopped(&mut self) -> bool {
        let mut said = self.said.clone();
        tokio::select! {
            alive = self.pauser.stands_still(true) => alive,
            Ok(_) = said.wait_for(|said| said.held) => true,
        }
    }

    /// Sends the SIGCONT, and waits until the member goes on. It is not an error if the member was
    /// killed meanwhile.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub async fn go_on(mut self) -> io::Result<()> {
        self.resume()?;
        self.pauser.stands_still(false).await;
        Ok(())
    }

    fn resume(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.goes_on, true) {
            return Ok(());
        }
        // The window is counted before the member goes on, so that later waits are for another
        // window.
        self.windows_left.store(self.said.borrow().windows, Ordering::Release);
        if let Some(gate) = &self.gate {
            gate.go_on();
        }
        self.pauser.resume()
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        let _ = self.resume();
    }
}
