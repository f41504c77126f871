//! The present pace of this machine, by the harness's own measure, and bounds that are stretched by
//! it.
//!
//! A bound in milliseconds was measured on a machine that did nothing else. On a busy machine
//! everything takes longer, and a fixed bound would turn the neighbours' work into a verdict on the
//! system under test. So such bounds are counted on a clock that slows down with the machine.
//!
//! The measure is the *floor* of a cycle, the smallest parts of every cycle: a burst of processor
//! time, syncs of one page to the report's disk, and round trips over the loopback, which include
//! the scheduler's delays. (A spawn is processor time and page faults; forking this process twice a
//! second would be a load of its own.) One thread of the harness does all of it: the behaviour of
//! members has no influence, so a member that hangs does not stretch its own bound.
//!
//! The factor is the present floor divided by the floor where bounds were measured
//! ([`limits::FLOOR_REFERENCE`]), by a run that had the machine for itself and kept it busy: never
//! below 1, and never above [`limits::PACE_FACTOR_MAX`].

use crate::timer;
use ninelives_evidence::record::pace::PaceRecord;
use ninelives_evidence::stretched::{AS_IDLE, Stretched};
use ninelives_evidence::{clock, limits};
use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A handle to the measurement of one machine. It ends with the last handle.
#[derive(Debug, Clone)]
pub struct Pace {
    state: Arc<Mutex<State>>,
    /// The sampler ends when it is gone; `None`: nothing is measured.
    _sampler: Option<Arc<mpsc::Sender<()>>>,
}

#[derive(Debug)]
struct State {
    began: Instant,
    /// Time on the slower clock from the beginning until `at`.
    paced: Duration,
    at: Instant,
    /// Since `at`.
    factor: f64,
    /// The beginning of the measurement under way.
    measuring: Option<Instant>,
    /// The last floors.
    floors: VecDeque<Duration>,
    first_floor: Option<Duration>,
    /// All floors together, and how many they are.
    sum: (Duration, u32),
    /// The lowest and the highest factor.
    span: Option<(f64, f64)>,
}

/// A moment from which on a bound is counted.
#[derive(Debug, Clone)]
pub struct Lap {
    pace: Pace,
    at: Instant,
    paced: Duration,
}

impl Pace {
    /// Begins to measure this machine, and the disk of `root`, a directory; returns with the first
    /// measurement.
    ///
    /// # Errors
    /// No thread or no loopback connection can be had.
    pub async fn watch(root: &Path) -> io::Result<Self> {
        let mut probe = Probe::new(root)?;
        let state = Arc::new(Mutex::new(State::new(clock::now())));
        let (sampler, gone) = mpsc::channel();
        let (tell, first) = oneshot::channel();
        let shared = Arc::clone(&state);
        std::thread::Builder::new().name("pace".to_owned()).spawn(move || {
            let mut tell = Some(tell);
            loop {
                let began = clock::now();
                lock(&shared).measuring = Some(began);
                probe.floor();
                lock(&shared).take(clock::now(), began);
                if let Some(tell) = tell.take() {
                    // A caller that does not wait any more ends the channel as well.
                    let _ = tell.send(());
                }
                if gone.recv_timeout(limits::PACE_PAUSE) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
        })?;
        first.await.map_err(io::Error::other)?;
        Ok(Self { state, _sampler: Some(Arc::new(sampler)) })
    }

    /// A pace that measures nothing and stretches nothing.
    pub fn idle() -> Self {
        Self { state: Arc::new(Mutex::new(State::new(clock::now()))), _sampler: None }
    }

    /// Begins to count a bound.
    pub fn begin(&self) -> Lap {
        let at = clock::now();
        Lap { at, paced: lock(&self.state).paced_at(at), pace: self.clone() }
    }

    /// Everything since the measurement began.
    pub fn of_the_run(&self) -> Lap {
        Lap { at: lock(&self.state).began, paced: Duration::ZERO, pace: self.clone() }
    }

    /// `future`'s output, if it comes within `bound`, stretched; the future is dropped otherwise.
    ///
    /// # Errors
    /// It does not come in time; the error is the stretched `bound`.
    pub async fn within<F: Future>(&self, bound: Duration, future: F) -> Result<F::Output, Stretched> {
        self.begin().within(bound, future).await
    }

    /// The pace so far; `None`: nothing was measured.
    pub fn record(&self) -> Option<PaceRecord> {
        let (now, state) = (clock::now(), lock(&self.state));
        let (first, (min, max)) = (state.first_floor?, state.span?);
        Some(PaceRecord {
            reference_floor_us: us(limits::FLOOR_REFERENCE),
            launch_floor_us: us(first),
            mean_floor_us: us(state.sum.0 / state.sum.1.max(1)),
            factor_percent_min: percent(min),
            factor_percent_max: percent(max),
            factor_percent_mean: mean(now - state.began, state.paced_at(now)),
        })
    }
}

impl Lap {
    /// Time until `bound`, stretched, is over, at the present pace; zero: it is.
    pub fn left(&self, bound: Duration) -> Duration {
        let (now, state) = (clock::now(), lock(&self.pace.state));
        let gone = state.paced_at(now).saturating_sub(self.paced);
        bound.saturating_sub(gone).mul_f64(state.factor_at(now))
    }

    pub fn is_over(&self, bound: Duration) -> bool {
        self.left(bound).is_zero()
    }

    /// Like [`Pace::within`], with a bound that counts from the beginning of this lap.
    ///
    /// # Errors
    /// As [`Pace::within`].
    pub async fn within<F: Future>(&self, bound: Duration, future: F) -> Result<F::Output, Stretched> {
        tokio::pin!(future);
        loop {
            // The pace may change on the way: what is left is looked at again.
            let slice = self.left(bound).min(limits::PACE_PAUSE);
            if let Some(output) = timer::within(slice, &mut future).await {
                return Ok(output);
            }
            if self.is_over(bound) {
                return Err(self.stretched(bound));
            }
        }
    }

    /// `bound` as it was stretched since this began.
    pub fn stretched(&self, bound: Duration) -> Stretched {
        Stretched { factor_percent: self.factor_percent(), ..Stretched::idle(bound) }
    }

    /// The mean factor since this began.
    pub fn factor_percent(&self) -> u32 {
        let now = clock::now();
        let paced = lock(&self.pace.state).paced_at(now).saturating_sub(self.paced);
        mean(now - self.at, paced)
    }

    pub fn elapsed(&self) -> Duration {
        self.at.elapsed()
    }

    /// [`Lap::elapsed`] in milliseconds, rounded down.
    pub fn elapsed_ms(&self) -> u64 {
        clock::ms_since(self.at)
    }

    /// The wait so far, as a bound of an idle machine that was stretched to it.
    pub fn waited(&self) -> Stretched {
        let factor_percent = self.factor_percent();
        let idle = self.elapsed().mul_f64(f64::from(AS_IDLE) / f64::from(factor_percent));
        Stretched { factor_percent, ..Stretched::idle(idle) }
    }
}

impl State {
    fn new(now: Instant) -> Self {
        Self {
            began: now,
            paced: Duration::ZERO,
            at: now,
            factor: 1.0,
            measuring: None,
            floors: VecDeque::new(),
            first_floor: None,
            sum: (Duration::ZERO, 0),
            span: None,
        }
    }

    /// The factor at `now`: a measurement that has not ended yet counts as a slow one already.
    fn factor_at(&self, now: Instant) -> f64 {
        let under_way = self.measuring.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        self.factor.max(factor_of(under_way))
    }

    /// The slower clock at `now`. It never goes back: see the test.
    fn paced_at(&self, now: Instant) -> Duration {
        let since = self.measuring.unwrap_or(now).clamp(self.at, now.max(self.at));
        let (before, under_way) = (since - self.at, now.saturating_duration_since(since));
        self.paced + before.div_f64(self.factor) + under_way.div_f64(self.factor_at(now))
    }

    /// A measurement that began at `began` has ended.
    fn take(&mut self, now: Instant, began: Instant) {
        self.paced = self.paced_at(now);
        (self.at, self.measuring) = (now, None);
        let floor = now - began;
        self.first_floor.get_or_insert(floor);
        self.sum = (self.sum.0 + floor, self.sum.1 + 1);
        self.floors.push_back(floor);
        if self.floors.len() > limits::PACE_SAMPLES {
            self.floors.pop_front();
        }
        self.factor = factor_of(self.floors.iter().sum::<Duration>() / self.floors.len() as u32);
        let (min, max) = self.span.unwrap_or((self.factor, self.factor));
        self.span = Some((min.min(self.factor), max.max(self.factor)));
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn factor_of(floor: Duration) -> f64 {
    floor.div_duration_f64(limits::FLOOR_REFERENCE).clamp(1.0, limits::PACE_FACTOR_MAX)
}

fn percent(factor: f64) -> u32 {
    (factor * f64::from(AS_IDLE)).round() as u32
}

/// The factor that made `paced` out of `wall`, percent.
fn mean(wall: Duration, paced: Duration) -> u32 {
    if paced.is_zero() { AS_IDLE } else { percent(wall.div_duration_f64(paced)).max(AS_IDLE) }
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The tools that measure a floor.
struct Probe {
    /// It has no name any more. `None`: the disk gives no room, which `machine.rs` tells.
    page: Option<File>,
    near: TcpStream,
}

const PAGE: [u8; 4096] = [0x5a; 4096];

impl Probe {
    fn new(root: &Path) -> io::Result<Self> {
        let path = root.join("pace.tmp");
        // A disk without room, or a root that cannot be written to, is the run's own trouble soon
        // after.
        let page = File::create(&path).and_then(|page| std::fs::remove_file(&path).map(|()| page)).ok();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let near = TcpStream::connect(listener.local_addr()?)?;
        let (mut far, _) = listener.accept()?;
        for end in [&near, &far] {
            end.set_nodelay(true)?;
        }
        near.set_read_timeout(Some(limits::FLOOR_TRIP_MAX))?;
        std::thread::Builder::new().name("pace-echo".to_owned()).spawn(move || {
            let mut byte = [0];
            while far.read_exact(&mut byte).and_then(|()| far.write_all(&byte)).is_ok() {}
        })?;
        Ok(Self { page, near })
    }

    /// Measures one floor. A part that fails is left out, and the time that it took still counts.
    fn floor(&mut self) {
        burn(limits::FLOOR_BURST);
        for _ in 0..limits::FLOOR_SYNCS {
            let Some(page) = &self.page else { break };
            if page.write_all_at(&PAGE, 0).and_then(|()| page.sync_data()).is_err() {
                self.page = None;
            }
        }
        for _ in 0..limits::FLOOR_TRIPS {
            let mut byte = [1];
            if self.near.write_all(&byte).and_then(|()| self.near.read_exact(&mut byte)).is_err() {
                break;
            }
        }
    }
}

/// Uses `burst` of processor time, however long that takes.
fn burn(burst: Duration) {
    let Ok(began) = clock::thread_time() else { return };
    while clock::thread_time().is_ok_and(|now| now.saturating_sub(began) < burst) {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_factor_is_at_least_one_and_has_an_end() {
        assert!((factor_of(Duration::ZERO) - 1.0).abs() < 1e-9);
        assert!((factor_of(limits::FLOOR_REFERENCE * 3) - 3.0).abs() < 1e-9);
        assert!((factor_of(ms(60_000)) - limits::PACE_FACTOR_MAX).abs() < 1e-9);
    }

    #[test]
    fn the_clock_goes_slower_by_the_factor() {
        let began = clock::now();
        let mut state = State::new(began);
        (0..limits::PACE_SAMPLES as u64).for_each(|nth| {
            let at = began + ms(100 * nth);
            state.take(at + limits::FLOOR_REFERENCE * 4, at);
        });
        let (at, before) = (state.at, state.paced);
        assert_eq!(percent(state.factor), 400);
        assert_eq!(state.paced_at(at + ms(4_000)) - before, ms(1_000));
        assert_eq!(state.span.map(|(min, max)| (percent(min), percent(max))), Some((400, 400)));
    }

    #[test]
    fn a_measurement_that_does_not_end_slows_the_clock() {
        let began = clock::now();
        let mut state = State::new(began);
        state.measuring = Some(began);
        assert!(state.paced_at(began + limits::FLOOR_REFERENCE * 5) <= limits::FLOOR_REFERENCE + ms(1));
        let late = state.paced_at(began + ms(80_000));
        assert_eq!(late, ms(10_000), "a member that hangs is late all the same");
    }

    proptest! {
        /// Whatever is measured, bounds are counted forwards, at most as fast as time goes and at
        /// least at the slowest pace.
        #[test]
        fn the_clock_goes_forwards(steps in proptest::collection::vec((0u64..900, 0u64..900), 1..40)) {
            let began = clock::now();
            let (mut now, mut state, mut last) = (began, State::new(began), Duration::ZERO);
            for (pause, takes) in steps {
                now += ms(pause);
                state.measuring = Some(now);
                let from = now;
                for part in 1..=4 {
                    now = from + ms(takes) * part / 4;
                    let paced = state.paced_at(now);
                    prop_assert!(paced >= last, "{paced:?} after {last:?}");
                    last = paced;
                }
                state.take(now, from);
                prop_assert!(state.paced_at(now) >= last);
            }
            let wall = now - began;
            prop_assert!(last <= wall + ms(1) && last.mul_f64(limits::PACE_FACTOR_MAX) + ms(1) >= wall);
        }
    }

    #[tokio::test]
    async fn without_a_measurement_bounds_are_as_they_are() {
        let pace = Pace::idle();
        assert_eq!(pace.record(), None);
        assert_eq!(pace.within(ms(20), std::future::pending::<()>()).await, Err(Stretched::idle(ms(20))));
        assert_eq!(pace.within(Duration::ZERO, async { 3 }).await, Ok(3), "what is there needs no time");
        let lap = pace.begin();
        assert_eq!(lap.stretched(ms(30)), Stretched { idle_ms: 30, factor_percent: AS_IDLE });
        assert!(!lap.is_over(ms(60_000)) && lap.left(ms(60_000)) <= ms(60_000));
    }

    #[tokio::test]
    async fn this_machine_is_measured_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let pace = Pace::watch(dir.path()).await.unwrap();
        let record = pace.record().unwrap();
        assert!(record.launch_floor_us >= us(limits::FLOOR_BURST), "{record:?}");
        assert!(record.factor_percent_min >= AS_IDLE && record.factor_percent_max <= 800, "{record:?}");
        assert!(record.factor_percent_mean >= AS_IDLE, "{record:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
