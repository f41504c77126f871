//! The gate: every operation that changes a member's directory passes here. The gate counts them
//! one by one, and holds them once the member stands still.
//!
//! No thread waits inside it. A held request is kept aside with its work and its answer; the
//! threads that serve the mount go on, because a member that stands still must still be able to
//! read, and to die.

use super::point::{Class, Deed, Point, Side};
use crate::subject::events::NodeState;
use fuser::Errno;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A request that is kept aside. `true`: do the rest of it, and answer; `false`: refuse it.
type Held = Box<dyn FnOnce(bool) + Send>;

/// See the module's documentation.
#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    mode: Mode,
    armed: Option<Armed>,
    /// Requests that are being carried out.
    under_way: usize,
    /// The window and hit to report as soon as nothing is under way any more: only then nothing
    /// else reaches the directory.
    unsaid: Option<(String, u64)>,
    held: VecDeque<Held>,
    /// The receiver of holds: this life of the member.
    said: Option<watch::Sender<NodeState>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    #[default]
    Open,
    /// The member stands still, or is about to.
    Holding,
    /// The member is dead, or dying: its requests are not carried out any more.
    Refusing,
}

struct Armed {
    window: String,
    point: Point,
    hit: u64,
    passed: u64,
    /// Passes count: of a point that is of an install, once the image's first file is made.
    counts: bool,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Gate").field("mode", &state.mode).field("held", &state.held.len()).finish_non_exhaustive()
    }
}

impl Gate {
    /// Begins a new life, whose holds are reported to `said`. The life before is dead: its leftover
    /// requests are refused.
    pub fn open(&self, said: watch::Sender<NodeState>) {
        self.refuse();
        let mut state = self.state();
        state.mode = Mode::Open;
        state.said = Some(said);
    }

    /// Arms `window` for its `hit`-th pass from now, in place of whatever was armed; 0 disarms.
    ///
    /// # Errors
    /// It is not a window of files.
    pub fn arm(&self, window: &str, hit: u64) -> Result<(), String> {
        let point = Point::parse(window)
            .ok_or_else(|| format!("expected a window of files, such as file.raft-log.sync, found {window}"))?;
        let armed = Armed { window: window.to_owned(), point, hit, passed: 0, counts: !point.installs };
        self.state().armed = (hit > 0).then_some(armed);
        Ok(())
    }

    /// Whether the member stands still here, or will as soon as the operations under way are done.
    pub fn is_holding(&self) -> bool {
        self.state().mode == Mode::Holding
    }

    /// Lets a member that stands still go on: held requests are carried out in their order, and
    /// answered.
    pub fn go_on(&self) {
        loop {
            let mut state = self.state();
            if state.mode != Mode::Holding {
                return;
            }
            let Some(held) = state.held.pop_front() else {
                state.mode = Mode::Open;
                state.unsaid = None;
                state.tell(|said| said.held = false);
                return;
            };
            drop(state);
            held(true);
        }
    }

    /// Holds everything that would change something from now on: the power is about to fail, and
    /// nothing more reaches the disk.
    pub fn freeze(&self) {
        let mut state = self.state();
        if state.mode == Mode::Open {
            (state.mode, state.armed) = (Mode::Holding, None);
        }
    }

    /// Refuses all requests of the member from now on: it is dead, or has been sent its SIGKILL.
    /// Held requests are answered, because the member could not die otherwise.
    pub fn refuse(&self) {
        let mut state = self.state();
        (state.mode, state.armed, state.unsaid, state.said) = (Mode::Refusing, None, None, None);
        let held = std::mem::take(&mut state.held);
        drop(state);
        held.into_iter().for_each(|held| held(false));
    }

    /// Carries `work` out and answers with its outcome; or holds both, or refuses. `touches`: its
    /// operation, and the class of file.
    pub(super) fn pass<T: Send + 'static>(
        &self,
        touches: Option<(Class, Deed)>,
        work: impl FnOnce() -> Result<T, Errno> + Send + 'static,
        answer: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let mut state = self.state();
        if state.mode == Mode::Open && state.hits(touches, Side::Before) {
            state.hold();
        }
        match state.mode {
            Mode::Open => {}
            Mode::Holding => {
                state.held.push_back(Box::new(move |go_on| answer(if go_on { work() } else { Err(Errno::EIO) })));
                return;
            }
            Mode::Refusing => {
                drop(state);
                return answer(Err(Errno::EIO));
            }
        }
        state.under_way += 1;
        drop(state);
        let outcome = work();
        let mut state = self.state();
        state.under_way -= 1;
        if state.mode == Mode::Open && outcome.is_ok() && state.hits(touches, Side::After) {
            // The work is done either way, and the kernel has to learn that.
            state.held.push_back(Box::new(move |_| answer(outcome)));
            state.hold();
            return;
        }
        state.say();
        drop(state);
        answer(outcome);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts a pass, and says whether it is the one that the gate is armed for.
    fn hits(&mut self, touches: Option<(Class, Deed)>, side: Side) -> bool {
        let (Some((class, deed)), Some(armed)) = (touches, &mut self.armed) else { return false };
        armed.counts |= (class, deed) == (Class::Incoming, Deed::Create);
        let Point { installs, .. } = armed.point;
        if !armed.counts || armed.point != (Point { class, deed, side, installs }) {
            return false;
        }
        armed.passed += 1;
        armed.passed == armed.hit
    }

    fn hold(&mut self) {
        self.mode = Mode::Holding;
        self.unsaid = self.armed.take().map(|armed| (armed.window, armed.hit));
        self.say();
    }

    fn say(&mut self) {
        if self.under_way == 0
            && let Some(window) = self.unsaid.take()
        {
            self.tell(|said| {
                (said.window, said.held) = (Some(window), true);
                said.windows += 1;
            });
        }
    }

    fn tell(&self, change: impl FnOnce(&mut NodeState)) {
        if let Some(said) = &self.said {
            said.send_modify(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::damage::FileClass;
    use std::sync::Arc;
    use std::sync::mpsc;

    const SYNC: Option<(Class, Deed)> = Some((Class::Wal, Deed::Sync));

    struct Bench {
        gate: Arc<Gate>,
        said: watch::Receiver<NodeState>,
        done: Arc<Mutex<Vec<u32>>>,
        answers: mpsc::Receiver<(u32, bool)>,
        answer: mpsc::Sender<(u32, bool)>,
    }

    impl Bench {
        fn new() -> Self {
            let (publish, said) = watch::channel(NodeState::default());
            let (answer, answers) = mpsc::channel();
            let gate = Arc::new(Gate::default());
            gate.open(publish);
            Self { gate, said, done: Arc::default(), answers, answer }
        }

        fn pass(&self, number: u32, touches: Option<(Class, Deed)>) {
            let (done, answer) = (Arc::clone(&self.done), self.answer.clone());
            let work = move || {
                done.lock().unwrap().push(number);
                Ok(())
            };
            self.gate.pass(touches, work, move |outcome| answer.send((number, outcome.is_ok())).unwrap());
        }

        fn done(&self) -> Vec<u32> {
            self.done.lock().unwrap().clone()
        }

        fn answers(&self) -> Vec<(u32, bool)> {
            self.answers.try_iter().collect()
        }
    }

    #[test]
    fn before_the_hit_nothing_is_done_and_everything_later_waits() {
        let bench = Bench::new();
        bench.gate.arm("wal.sync", 2).unwrap();
        bench.pass(1, SYNC);
        bench.pass(2, Some((Class::File(FileClass::Database), Deed::Sync)));
        assert!(!bench.gate.is_holding());
        bench.pass(3, SYNC);
        bench.pass(4, None);
        assert_eq!(bench.done(), [1, 2]);
        assert_eq!(bench.answers(), [(1, true), (2, true)]);
        let said = bench.said.borrow().clone();
        assert_eq!((said.window, said.windows, said.held), (Some(("wal.sync".to_owned(), 2)), 1, true));
        bench.gate.refuse();
        assert_eq!(bench.answers(), [(3, false), (4, false)]);
        bench.pass(5, None);
        assert_eq!((bench.done(), bench.answers()), (vec![1, 2], vec![(5, false)]));
    }

    #[test]
    fn after_the_hit_it_is_done_and_unanswered() {
        let bench = Bench::new();
        bench.gate.arm("wal.synced", 1).unwrap();
        bench.pass(1, SYNC);
        bench.pass(2, SYNC);
        assert_eq!((bench.done(), bench.answers()), (vec![1], vec![]));
        bench.gate.refuse();
        assert_eq!(bench.answers(), [(1, true), (2, false)], "the kernel learns what was done");
    }

    #[test]
    fn who_goes_on_goes_on_in_order() {
        let bench = Bench::new();
        bench.gate.arm("wal.sync", 1).unwrap();
        (1..=3).for_each(|number| bench.pass(number, SYNC));
        bench.gate.go_on();
        assert_eq!(bench.done(), [1, 2, 3]);
        assert!(!bench.gate.is_holding() && !bench.said.borrow().held);
        bench.pass(4, SYNC);
        assert_eq!(bench.done(), [1, 2, 3, 4], "a hit is a hit once");
    }

    /// Nothing is answered until the member is dead: an error would not be a power loss.
    #[test]
    fn frozen_holds_everything_and_tells_nothing() {
        let bench = Bench::new();
        bench.gate.arm("wal.sync", 1).unwrap();
        bench.gate.freeze();
        bench.pass(1, SYNC);
        bench.pass(2, None);
        assert_eq!((bench.done(), bench.answers()), (vec![], vec![]));
        assert!(!bench.said.borrow().held);
        bench.gate.refuse();
        assert_eq!(bench.answers(), [(1, false), (2, false)]);
    }

    #[test]
    fn disarmed_is_disarmed() {
        let bench = Bench::new();
        bench.gate.arm("wal.sync", 1).unwrap();
        bench.gate.arm("wal.sync", 0).unwrap();
        bench.pass(1, SYNC);
        assert_eq!(bench.answers(), [(1, true)]);
        assert!(bench.gate.arm("raft.append", 1).is_err());
    }

    /// A start syncs what an install syncs: only the latter is meant.
    #[test]
    fn a_point_of_an_install_counts_from_its_first_file_on() {
        let bench = Bench::new();
        let (of_index, of_image) =
            (Some((Class::File(FileClass::LastFlushedIndex), Deed::Sync)), Some((Class::Incoming, Deed::Create)));
        bench.gate.arm("file.install.last-flushed-index.sync", 1).unwrap();
        bench.pass(1, of_index);
        bench.pass(2, of_image);
        bench.pass(3, of_index);
        assert_eq!((bench.done(), bench.answers()), (vec![1, 2], vec![(1, true), (2, true)]));
        bench.gate.go_on();
        bench.gate.arm("file.install.incoming.create", 1).unwrap();
        bench.pass(4, of_image);
        assert_eq!(bench.done(), [1, 2, 3], "the first file counts itself");
    }

    /// Operations that had begun are finished first. Only then does the gate report that nothing
    /// more reaches the directory.
    #[test]
    fn a_hold_is_told_once_nothing_is_under_way() {
        let bench = Bench::new();
        bench.gate.arm("wal.sync", 1).unwrap();
        let (begun, has_begun) = mpsc::channel();
        let (finish, may_finish) = mpsc::channel::<()>();
        let gate = Arc::clone(&bench.gate);
        let slow = std::thread::spawn(move || {
            let work = move || {
                begun.send(()).unwrap();
                may_finish.recv().map_err(|_| Errno::EIO)
            };
            gate.pass(None, work, |_| {});
        });
        has_begun.recv().unwrap();
        bench.pass(1, SYNC);
        assert!(bench.gate.is_holding() && !bench.said.borrow().held);
        finish.send(()).unwrap();
        slow.join().unwrap();
        assert!(bench.said.borrow().held);
    }
}
