//! Histories as kills, damage and former versions leave them.

use super::frames::{self, Next, PART_BYTES, Packer};
use super::*;
use crate::operation::OpId;
use crate::verdict::findings::What;
use proptest::prelude::*;
use std::fs;
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Waker};

/// A directory for one history.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn tail(&self) -> PathBuf {
        self.dir.path().join("history.jsonl")
    }

    fn frames(&self) -> PathBuf {
        frames_of(&self.tail())
    }

    /// Leaves these files; of `None`, none.
    fn leave(&self, tail: &[u8], frames: Option<&[u8]>) {
        fs::write(self.tail(), tail).unwrap();
        match frames {
            Some(bytes) => fs::write(self.frames(), bytes).unwrap(),
            None => drop(fs::remove_file(self.frames())),
        }
    }

    /// The cycles of the baselines that are read, and whether the last line is cut off.
    fn read(&self) -> Result<(Vec<u32>, bool), Error> {
        let mut lines = Lines::open(&self.tail())?;
        let cycles = cycles_of(&mut lines)?;
        Ok((cycles, lines.torn()))
    }

    /// Goes on with what is there, and records the baseline of `cycle`.
    fn go_on(&self, cycle: u32) {
        let mut lines = Lines::open(&self.tail()).unwrap();
        cycles_of(&mut lines).unwrap();
        History::go_on(&self.tail(), lines.go_on()).unwrap().record(&Evidence::Baseline { cycle });
    }
}

fn cycles_of(lines: &mut Lines) -> Result<Vec<u32>, Error> {
    let mut cycles = Vec::new();
    while let Some((number, evidence)) = lines.read()? {
        let Evidence::Baseline { cycle } = evidence else { panic!("{evidence:?}") };
        cycles.push(cycle);
        assert_eq!(number, cycles.len() as u64, "lines are counted from 1");
    }
    Ok(cycles)
}

/// Lines of baselines of these cycles.
fn lines(cycles: std::ops::RangeInclusive<u32>) -> Vec<u8> {
    cycles.flat_map(|cycle| format!("{{\"at_us\":7,\"event\":\"mark\",\"cycle\":{cycle}}}\n").into_bytes()).collect()
}

fn frame(lines: &[u8]) -> Vec<u8> {
    Packer::new().unwrap().frame(lines).unwrap()
}

fn tail(sealed_bytes: usize, lines: &[u8]) -> Vec<u8> {
    [format!("{{\"sealed_bytes\":{sealed_bytes}}}\n").as_bytes(), lines].concat()
}

#[test]
fn a_former_versions_history_is_a_tail_that_was_never_sealed() {
    let place = Place::new();
    place.leave(&lines(1..=3), None);
    assert_eq!(place.read().unwrap(), ((1..=3).collect(), false));
    place.go_on(4);
    assert_eq!(place.read().unwrap(), ((1..=4).collect(), false));
}

/// What a reader without this program sees.
#[test]
fn a_history_that_ended_is_one_file_of_frames_and_a_tail_of_no_lines() {
    let place = Place::new();
    let history = History::create(&place.tail()).unwrap();
    (1..=3).for_each(|cycle| history.record_at(7, &Evidence::Baseline { cycle }));
    assert_eq!(fs::read(place.tail()).unwrap(), lines(1..=3), "not yet sealed");
    drop(history);
    let unpacked = zstd::decode_all(File::open(place.frames()).unwrap()).unwrap();
    assert_eq!(String::from_utf8(unpacked).unwrap(), String::from_utf8(lines(1..=3)).unwrap());
    assert_eq!(fs::read(place.tail()).unwrap(), tail(lines(1..=3).len(), b""));
    assert_eq!(place.read().unwrap(), ((1..=3).collect(), false));
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 2, "nothing else is left");
}

/// Claim 1 of `sealer.rs`: a kill while a frame is appended, at any byte.
#[test]
fn claim_1_a_frame_that_is_cut_off_at_any_byte_is_no_loss() {
    let place = Place::new();
    let (first, second) = (frame(&lines(1..=2)), frame(&lines(3..=4)));
    for cut in 0..=second.len() {
        let frames = [&first[..], &second[..cut]].concat();
        place.leave(&tail(lines(1..=2).len(), &lines(3..=5)), Some(&frames));
        assert_eq!(place.read().unwrap(), ((1..=5).collect(), false), "cut at {cut} of {}", second.len());
        place.go_on(6);
        assert_eq!(place.read().unwrap(), ((1..=6).collect(), false), "gone on after a cut at {cut}");
    }
}

/// Claim 1: a kill while a line is written, at any byte, with frames before it and without.
#[test]
fn claim_1_a_line_that_is_cut_off_at_any_byte_is_left_out_and_those_before_it_are_not() {
    let place = Place::new();
    let (sealed, last) = (frame(&lines(1..=2)), lines(4..=4));
    for cut in 0..last.len() {
        for (before, frames) in [(lines(1..=3), None), (tail(lines(1..=2).len(), &lines(3..=3)), Some(&*sealed))] {
            place.leave(&[&before[..], &last[..cut]].concat(), frames);
            assert_eq!(place.read().unwrap(), ((1..=3).collect(), cut > 0), "cut at {cut}");
            place.go_on(4);
            assert_eq!(place.read().unwrap(), ((1..=4).collect(), false), "gone on after a cut at {cut}");
        }
    }
}

/// Claim 1: between the frame and the new tail, and while that is written.
#[test]
fn claim_1_lines_in_both_files_are_read_once() {
    let place = Place::new();
    let frames = [frame(&lines(1..=2)), frame(&lines(3..=4))].concat();
    for old in [lines(1..=5), tail(lines(1..=2).len(), &lines(3..=5))] {
        place.leave(&old, Some(&frames));
        fs::write(place.dir.path().join("history.jsonl.new"), "{\"sealed_by").unwrap();
        assert_eq!(place.read().unwrap(), ((1..=5).collect(), false));
        place.go_on(6);
        assert_eq!(place.read().unwrap(), ((1..=6).collect(), false));
        assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 2);
    }
}

#[test]
fn what_no_kill_leaves_is_refused_in_words() {
    let place = Place::new();
    let parts = [lines(1..=2), lines(3..=4), lines(5..=6)];
    let frames: Vec<_> = parts.iter().map(|part| frame(part)).collect();
    let (sealed, tail) = (parts.concat().len(), |from| tail(from, &lines(7..=7)));
    let refused = |tail: &[u8], frames: Option<&[u8]>| {
        place.leave(tail, frames);
        let error = place.read().unwrap_err();
        assert!(matches!(error, Error::Broken(_)), "{error}");
        error.to_string()
    };
    let mut damaged = frames.concat();
    damaged[frames[0].len() + frames[1].len() / 2] ^= 1;
    let said = refused(&tail(sealed), Some(&damaged));
    let first = parts[0].len();
    assert!(said.contains(&format!("found damage behind the first {first} bytes of lines (")), "{said}");
    let said = refused(&tail(sealed), Some(&[&frames.concat()[..], b"no frame"].concat()));
    assert!(said.contains("found damage"), "{said}");
    // A frame is missing, at the end or in the middle; all are; the tail is another one.
    for frames in [&frames[..2], &[frames[0].clone(), frames[2].clone()], &[]] {
        let said = refused(&tail(sealed), Some(&frames.concat()));
        assert!(said.contains(&format!("found bytes {sealed} to")) && said.contains("is missing"), "{said}");
    }
    assert!(refused(&tail(sealed), None).contains("is missing"));
    let cut = frames.concat();
    assert!(refused(&tail(sealed), Some(&cut[..cut.len() - 1])).contains("is missing"));
    assert!(refused(&lines(1..=3), Some(&frames.concat())).contains("found bytes 0 to"));
}

/// One of the lines is longer than a frame, and the tail fills several.
#[test]
fn claim_2_frames_end_where_lines_end_unless_a_line_is_longer_than_a_frame() {
    let place = Place::new();
    let history = History::create(&place.tail()).unwrap();
    let op = OpId { client: 3, seq: 17 };
    let bytes = |marks: usize| "no repetition ".chars().cycle().take(marks).collect::<String>();
    for length in [1, PART_BYTES + 7, 5, PART_BYTES / 2, PART_BYTES / 2, PART_BYTES / 2] {
        history.record_at(7, &Evidence::Unknown { op, why: bytes(length) });
    }
    let shared = Arc::clone(&history.shared);
    drop(history);
    let whole = shared.tail().whole();
    assert!(shared.failed.get().is_none());
    let (file, mut part, mut parts) = (fs::read(place.frames()).unwrap(), Vec::new(), Vec::new());
    let mut rest = file.as_slice();
    while frames::read(&mut rest, &mut part).unwrap() == Next::Frame {
        parts.push((part.len(), part.ends_with(b"\n")));
    }
    assert_eq!(parts.iter().map(|(bytes, _)| *bytes as u64).sum::<u64>(), whole);
    assert!(parts.iter().all(|(bytes, ended)| *ended || *bytes == PART_BYTES), "{parts:?}");
    assert_eq!(parts.iter().filter(|(_, ended)| !ended).count(), 1, "the long line's beginning: {parts:?}");
    let (mut lines, mut lengths) = (Lines::open(&place.tail()).unwrap(), Vec::new());
    while let Some((_, Evidence::Unknown { why, .. })) = lines.read().unwrap() {
        assert_eq!(why, bytes(why.len()));
        lengths.push(why.len());
    }
    assert_eq!(lengths, [1, PART_BYTES + 7, 5, PART_BYTES / 2, PART_BYTES / 2, PART_BYTES / 2]);
}

#[test]
fn the_end_of_a_history_begins_with_a_whole_line_wherever_its_lines_are() {
    let place = Place::new();
    let line = lines(1..=1).len() as u64;
    let nth = |cycle: u32| Some((u64::from(cycle), Evidence::Baseline { cycle }));
    for sealed in [0, 4, 8, 9] {
        let frames = frame(&lines(1..=sealed));
        place.leave(
            &tail(lines(1..=sealed).len(), &lines(sealed + 1..=9)),
            Some(&frames).filter(|_| sealed > 0).map(|f| &**f),
        );
        let first = |bytes| Lines::of_the_end(&place.tail(), bytes).unwrap().read().unwrap();
        assert_eq!(first(2 * line), nth(8));
        assert_eq!(first(2 * line + 1), nth(8), "the end of the seventh line is left out");
        assert_eq!(first(2 * line - 1), nth(9));
        assert_eq!((first(1_000_000), first(0)), (nth(1), None));
    }
}

#[test]
fn a_line_that_is_none_is_named() {
    let place = Place::new();
    let text = String::from_utf8(lines(1..=3)).unwrap().replacen("mark", "mork", 1);
    place.leave(text.as_bytes(), None);
    let error = place.read().unwrap_err().to_string();
    assert!(error.contains("line 1:"), "{error}");
}

#[test]
fn another_histories_place_is_not_taken() {
    let place = Place::new();
    place.leave(&lines(1..=1), None);
    assert_eq!(History::create(&place.tail()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
}

/// `/dev/full` takes nothing, as a full disk.
#[test]
fn a_history_that_cannot_be_written_says_whose_fault_that_is_and_goes_no_further() {
    let history = History::create(Path::new("/dev/full")).unwrap();
    assert!(history.failure().is_none());
    history.record(&Evidence::Baseline { cycle: 1 });
    assert!(pin!(history.failed()).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    let finding = history.failure().unwrap();
    let What::Harness(Harness::NoRoomForHistory { error }) = finding.what else { panic!("{finding}") };
    assert!(error.contains("No space left on device"), "{error}");
}

/// A directory stands in the place of the frames.
#[test]
fn frames_that_cannot_be_written_are_a_failure_and_cost_no_line() {
    let place = Place::new();
    let history = History::create(&place.tail()).unwrap();
    fs::create_dir(place.frames()).unwrap();
    history.record_at(7, &Evidence::Baseline { cycle: 1 });
    let shared = Arc::clone(&history.shared);
    drop(history);
    assert!(shared.failed.get().is_some());
    assert_eq!(fs::read(place.tail()).unwrap(), lines(1..=1));
}

/// What clients were answered waits for what they do next.
#[test]
fn an_announcement_is_on_disk_when_record_returns_with_all_lines_before_it() {
    let place = Place::new();
    let written = || -> Vec<serde_json::Value> {
        let text = fs::read_to_string(place.tail()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let history = History::create(&place.tail()).unwrap();
    let op = OpId { client: 3, seq: 17 };
    let answered = Evidence::Unknown { op, why: "transport error".to_owned() };
    history.record(&answered);
    assert_eq!(written().len(), 0);
    history.record(&Evidence::Baseline { cycle: 1 });
    let lines = written();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["unknown", "mark"]);
    assert_eq!((lines[0]["op"].as_str(), lines[0]["at_us"].is_u64()), (Some("3.17"), true));
    history.record(&answered);
    history.flush();
    assert_eq!(written().len(), 3);
    let many = Evidence::Unknown { op, why: "x".repeat(100_000) };
    history.record(&many);
    assert_eq!(written().len(), 4, "no more of them wait than have room");
    history.record(&answered);
    drop(history);
    assert_eq!(
        Lines::open(&place.tail()).map(|mut lines| std::iter::from_fn(|| lines.read().unwrap()).count()).unwrap(),
        5
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Lives of a harness, each killed at some byte of what it was writing: a line or a frame.
    #[test]
    fn claim_1_no_line_before_a_kill_is_lost_or_read_twice(
        lives in prop::collection::vec((1u32..6, any::<bool>(), any::<prop::sample::Index>()), 1..6),
    ) {
        let place = Place::new();
        place.leave(b"", None);
        let mut recorded = 0;
        for (more, ends, at) in lives {
            let mut read = Lines::open(&place.tail()).unwrap();
            prop_assert_eq!(cycles_of(&mut read).unwrap(), (1..=recorded).collect::<Vec<_>>());
            let history = History::go_on(&place.tail(), read.go_on()).unwrap();
            (recorded + 1..=recorded + more).for_each(|cycle| history.record_at(7, &Evidence::Baseline { cycle }));
            let before = (fs::read(place.tail()).unwrap(), fs::read(place.frames()).unwrap_or_default());
            drop(history);
            let after = (fs::read(place.tail()).unwrap(), fs::read(place.frames()).unwrap());
            let last = lines(recorded + more..=recorded + more).len();
            recorded += more;
            if ends {
                // Killed while the frame was appended, or after it and before the new tail.
                let cut = before.1.len() + at.index(after.1.len() - before.1.len() + 1);
                place.leave(&before.0, Some(&after.1[..cut]));
            } else {
                // Killed while the last line was written.
                recorded -= 1;
                let cut = before.0.len() - 1 - at.index(last);
                place.leave(&before.0[..cut], Some(&before.1));
            }
        }
        prop_assert_eq!(place.read().unwrap().0, (1..=recorded).collect::<Vec<_>>());
    }

    /// A changed byte of the frames is refused, or what is read is what was written.
    #[test]
    fn a_changed_byte_of_a_frame_is_never_read(at in any::<prop::sample::Index>(), bits in 1u8..) {
        let place = Place::new();
        let mut frames = [frame(&lines(1..=2)), frame(&lines(3..=4))].concat();
        let at = at.index(frames.len());
        frames[at] ^= bits;
        place.leave(&tail(lines(1..=4).len(), &lines(5..=5)), Some(&frames));
        match place.read() {
            Ok(read) => prop_assert_eq!(read, ((1..=5).collect(), false), "byte {}", at),
            Err(error) => prop_assert!(matches!(error, Error::Broken(_)), "byte {}: {}", at, error),
        }
    }
}
