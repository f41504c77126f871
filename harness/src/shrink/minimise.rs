//! The search for the smallest candidate that still fails the same way. Pure: it knows no cluster,
//! and asks an oracle.
//!
//! It reduces in this order, each part until no further reduction is possible:
//! 1. the **steps**: the last ones alone, because the last steps mostly show the bug; then Zeller's
//!    ddmin by complements: without one half, one quarter, … one step. The order is kept.
//! 2. the **faults** of each step that is left ([`super::simpler`]);
//! 3. the **scenario** ([`super::knobs`]).
//!
//! If 2 or 3 changed anything, 1 begins again: a simpler fault may need fewer steps before it. Each
//! accepted candidate is smaller than the one before it, and no candidate is tried twice, so the
//! search ends even with an oracle that answers at random.

use super::candidate::Candidate;
use super::knobs::Knob;
use super::simpler::simpler;
use crate::plan::Step;
use std::collections::HashSet;

/// An oracle's answer about a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The same class came back.
    Same,
    /// It did not: a pass, or another class.
    Other,
    /// No more questions: the budget is used up, or the user asked to stop.
    Stop,
}

/// The result of a search.
#[derive(Debug)]
pub struct Shrunk {
    /// Accepted candidates, from the start to the smallest. Never empty.
    pub trail: Vec<Candidate>,
    /// No further reduction is possible. Otherwise the oracle stopped the search.
    pub complete: bool,
    /// Reductions that could not be offered, and why.
    pub refused: Vec<String>,
}

impl Shrunk {
    pub fn best(&self) -> &Candidate {
        // Begun with the start, and only added to.
        &self.trail[self.trail.len() - 1]
    }
}

/// Shrinks `start`, which is known to fail, by what `oracle` says of smaller candidates.
pub async fn minimise(start: Candidate, oracle: impl AsyncFnMut(&Candidate) -> Answer) -> Shrunk {
    let asked = HashSet::from([start.key()]);
    let shrunk = Shrunk { trail: vec![start], complete: false, refused: Vec::new() };
    let mut search = Search { shrunk, asked, oracle };
    search.shrunk.complete = search.run().await.is_ok();
    search.shrunk
}

/// The oracle wants an end.
struct Stopped;

struct Search<O> {
    shrunk: Shrunk,
    asked: HashSet<String>,
    oracle: O,
}

impl<O: AsyncFnMut(&Candidate) -> Answer> Search<O> {
    async fn run(&mut self) -> Result<(), Stopped> {
        loop {
            self.last_steps().await?;
            self.fewer_steps().await?;
            let accepted = self.shrunk.trail.len();
            self.simpler_faults().await?;
            self.smaller_scenario().await?;
            if self.shrunk.trail.len() == accepted {
                return Ok(());
            }
        }
    }

    /// Asks whether `candidate` is accepted as the best; `None` never is.
    async fn offer(&mut self, candidate: Option<Candidate>) -> Result<bool, Stopped> {
        let Some(candidate) = candidate.filter(|candidate| !self.asked.contains(&candidate.key())) else {
            return Ok(false);
        };
        match (self.oracle)(&candidate).await {
            Answer::Stop => Err(Stopped),
            Answer::Other => {
                self.asked.insert(candidate.key());
                Ok(false)
            }
            Answer::Same => {
                self.asked.insert(candidate.key());
                self.shrunk.trail.push(candidate);
                Ok(true)
            }
        }
    }

    fn best(&self) -> &Candidate {
        self.shrunk.best()
    }

    /// One step, two, four, … at the end.
    async fn last_steps(&mut self) -> Result<(), Stopped> {
        let all = self.best().steps().len();
        let mut length = 1;
        while length < all {
            let last = self.best().steps()[all - length..].to_vec();
            if self.offer(self.best().with_steps(last)).await? {
                return Ok(());
            }
            length *= 2;
        }
        Ok(())
    }

    async fn fewer_steps(&mut self) -> Result<(), Stopped> {
        let mut chunk = self.best().steps().len() / 2;
        while chunk > 0 {
            let mut shorter = false;
            let mut from = 0;
            while from < self.best().steps().len() && self.best().steps().len() > 1 {
                let without = without(self.best().steps(), from, chunk);
                if self.offer(self.best().with_steps(without)).await? {
                    shorter = true;
                } else {
                    from += chunk;
                }
            }
            // At single steps the search goes on until a whole round removes none.
            chunk = if chunk == 1 && shorter { 1 } else { chunk / 2 };
        }
        Ok(())
    }

    async fn simpler_faults(&mut self) -> Result<(), Stopped> {
        let mut changed = true;
        while changed {
            changed = false;
            for at in 0..self.best().steps().len() {
                while self.simpler_step(at).await? {
                    changed = true;
                }
            }
        }
        Ok(())
    }

    async fn simpler_step(&mut self, at: usize) -> Result<bool, Stopped> {
        for step in simpler(&self.best().steps()[at]) {
            if self.offer(self.best().with_step(at, step)).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn smaller_scenario(&mut self) -> Result<(), Stopped> {
        for knob in Knob::ALL {
            while self.smaller_knob(knob).await? {}
        }
        Ok(())
    }

    async fn smaller_knob(&mut self, knob: Knob) -> Result<bool, Stopped> {
        for value in knob.smaller(knob.get(self.best().scenario())) {
            match self.best().with_knob(knob, value) {
                Ok(candidate) => {
                    if self.offer(Some(candidate)).await? {
                        return Ok(true);
                    }
                }
                Err(why) => {
                    let why = format!("{knob} = {value}: {why}");
                    if !self.shrunk.refused.contains(&why) {
                        self.shrunk.refused.push(why);
                    }
                }
            }
        }
        Ok(false)
    }
}

fn without(steps: &[Step], from: usize, count: usize) -> Vec<Step> {
    let end = steps.len().min(from + count);
    [&steps[..from], &steps[end..]].concat()
}

#[cfg(test)]
mod tests {
    use super::super::candidate::tests::candidate;
    use super::*;
    use futures_util::FutureExt;
    use proptest::prelude::*;

    /// Shrinks with an oracle that never waits; with the number of its questions.
    fn shrink(start: Candidate, mut oracle: impl FnMut(&Candidate) -> Answer) -> (Shrunk, usize) {
        let mut asked = 0;
        let shrunk = minimise(start, async |candidate: &Candidate| {
            asked += 1;
            oracle(candidate)
        });
        let shrunk = shrunk.now_or_never().expect("the oracle never waits");
        (shrunk, asked)
    }

    fn said(same: bool) -> Answer {
        if same { Answer::Same } else { Answer::Other }
    }

    fn actions(candidate: &Candidate) -> Vec<String> {
        candidate.steps().iter().map(Step::action).collect()
    }

    /// Steps that differ from one another and cannot be made simpler.
    fn plain(steps: usize) -> Candidate {
        let steps: Vec<_> = (1..=steps).map(|n| format!("kill leader at applied +{n}")).collect();
        candidate(&steps.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn has(candidate: &Candidate, cycle: usize) -> bool {
        candidate.steps().iter().any(|step| step.cycle as usize == cycle)
    }

    #[test]
    fn the_known_minimum_is_found() {
        let (shrunk, asked) = shrink(plain(100), |one| said(has(one, 23) && has(one, 87)));
        assert!(shrunk.complete);
        assert_eq!(actions(shrunk.best()), ["kill leader at applied +23", "kill leader at applied +87"]);
        assert!(asked < 80, "{asked} questions");
        let scenario = shrunk.best().scenario();
        assert_eq!((scenario.load.clients, scenario.load.keys, scenario.load.value_bytes_max), (1, 1, 64));
    }

    #[test]
    fn what_the_last_step_shows_alone_takes_few_questions() {
        let mut steps_asked = 0;
        let (shrunk, _) = shrink(plain(300), |one| {
            steps_asked += usize::from(one.scenario().load == plain(1).scenario().load);
            said(has(one, 300))
        });
        assert_eq!((shrunk.best().steps().len(), steps_asked), (1, 1));
    }

    #[test]
    fn faults_become_what_still_shows_it() {
        let start = candidate(&[
            "pause leader for 400ms at applied +3 + kill majority#1 at flush.completed hit 2 then at recovery.engine-open hit 1",
        ]);
        let needs = |one: &Candidate| said(actions(one).concat().contains("at flush.completed"));
        let (shrunk, _) = shrink(start, needs);
        assert_eq!(actions(shrunk.best()), ["kill follower#0 at flush.completed hit 1"]);
    }

    #[test]
    fn a_simpler_fault_may_need_less_that_leads_to_it() {
        let start = candidate(&["kill leader at applied +7", "kill all at flush.completed hit 2"]);
        // The second hit needs the first step, the first hit does not.
        let needs = |one: &Candidate| {
            let text = actions(one).join("\n");
            said(text.contains("hit 1") || text.contains("+7") && text.contains("hit 2"))
        };
        assert_eq!(actions(shrink(start, needs).0.best()), ["kill follower#0 at flush.completed hit 1"]);
    }

    #[test]
    fn a_scenario_is_only_as_small_as_it_fails() {
        let needs = |one: &Candidate| said(one.scenario().load.clients >= 5 && one.scenario().load.keys >= 50);
        let start = plain(3);
        let (clients, keys) = (start.scenario().load.clients, start.scenario().load.keys);
        let best = shrink(start, needs).0.trail.pop().unwrap();
        assert!((5..10).contains(&best.scenario().load.clients) && (50..100).contains(&best.scenario().load.keys));
        assert!(clients >= 10 && keys >= 100 && best.steps().len() == 1);
    }

    #[test]
    fn an_end_that_is_asked_for_keeps_the_best_so_far() {
        let mut left = 4;
        let (shrunk, _) = shrink(plain(64), |one| {
            left -= 1;
            if left == 0 { Answer::Stop } else { said(has(one, 1)) }
        });
        assert!(!shrunk.complete && has(shrunk.best(), 1));
    }

    #[test]
    fn a_class_that_never_comes_back_leaves_the_start() {
        let (shrunk, _) = shrink(plain(20), |_| Answer::Other);
        assert!(shrunk.complete && shrunk.trail.len() == 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The search finds the set of steps that the failure needs, whichever it is; a candidate
        /// that the oracle refused is never the best; the order stays.
        #[test]
        fn any_set_of_needed_steps_is_found(all in 1..60usize, needed in prop::collection::btree_set(1..60usize, 1..5)) {
            let needed: Vec<_> = needed.into_iter().filter(|cycle| *cycle <= all).collect();
            prop_assume!(!needed.is_empty());
            let (shrunk, asked) = shrink(plain(all), |one| said(needed.iter().all(|cycle| has(one, *cycle))));
            let left: Vec<_> = shrunk.best().steps().iter().map(|step| step.cycle as usize).collect();
            prop_assert_eq!(left, needed);
            prop_assert!(asked <= 60 * 60);
        }

        /// An oracle that answers at random can mislead the search, but not keep it going.
        #[test]
        fn it_ends_with_any_oracle(answers in prop::collection::vec(any::<bool>(), 1..64)) {
            let mut turn = 0;
            let start = candidate(&[
                "kill all at flush.completed hit 2 then at recovery.engine-open hit 2",
                "isolate majority#2 for 900ms at applied +12 + kill minority#2 at time 240ms",
                "kill leader at applied +7",
            ]);
            let mut accepted = vec![start.key()];
            let (shrunk, asked) = shrink(start, |one| {
                turn += 1;
                let same = answers[turn % answers.len()];
                if same { accepted.push(one.key()) }
                said(same)
            });
            prop_assert!(shrunk.complete && asked < 1_000);
            prop_assert_eq!(shrunk.trail.iter().map(Candidate::key).collect::<Vec<_>>(), accepted);
        }
    }
}
