//! Requests that are answered later: each is carried out once, when its delay is over or when all
//! delays end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

type Request = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(super) struct Delayed {
    state: Mutex<State>,
    /// No request is being carried out.
    idle: Condvar,
}

#[derive(Default)]
struct State {
    given: u64,
    waiting: BTreeMap<u64, Request>,
    under_way: usize,
}

impl fmt::Debug for Delayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delayed").field("waiting", &self.state().waiting.len()).finish_non_exhaustive()
    }
}

impl Delayed {
    /// Keeps `request` aside, under the number that is returned.
    pub fn add(&self, request: Request) -> u64 {
        let mut state = self.state();
        state.given += 1;
        let number = state.given;
        state.waiting.insert(number, request);
        number
    }

    /// Carries out a request, unless it has been already.
    pub fn carry_out(&self, number: u64) {
        let request = {
            let mut state = self.state();
            let Some(request) = state.waiting.remove(&number) else { return };
            state.under_way += 1;
            request
        };
        request();
        self.state().under_way -= 1;
        self.idle.notify_all();
    }

    /// Carries out all that wait, and returns when none is under way any more.
    pub fn end(&self) {
        loop {
            let Some(number) = self.state().waiting.keys().next().copied() else { break };
            self.carry_out(number);
        }
        let state = self.state();
        drop(self.idle.wait_while(state, |state| state.under_way > 0).unwrap_or_else(PoisonError::into_inner));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn each_request_is_carried_out_once_and_none_is_left() {
        let (delayed, done) = (Delayed::default(), Arc::new(Mutex::new(Vec::new())));
        let add = |what: u32| {
            let done = Arc::clone(&done);
            delayed.add(Box::new(move || done.lock().unwrap().push(what)))
        };
        let numbers = [1, 2, 3].map(add);
        delayed.carry_out(numbers[1]);
        delayed.carry_out(numbers[1]);
        assert_eq!(*done.lock().unwrap(), [2]);
        delayed.end();
        delayed.carry_out(numbers[0]);
        assert_eq!(*done.lock().unwrap(), [2, 1, 3]);
    }
}
