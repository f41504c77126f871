//! Tests of a disk that fails: its account alone, and through a mount where this machine has FUSE.

use super::disk::Disk;
use super::disk::room::{BLOCK, fitting};
use super::failing::Access;
use super::tests::Bench;
use crate::seed::Seed;
use ninelives_evidence::ended::Ended;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;
use proptest::prelude::*;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::thread;

#[test]
fn what_a_file_has_already_takes_no_room() {
    let file = tempfile::tempfile().unwrap();
    let fits = |offset, length, blocks| fitting(&file, (offset, length), blocks * BLOCK).unwrap();
    assert_eq!(fits(0, 3 * BLOCK, 3), 3 * BLOCK);
    assert_eq!(fits(0, 3 * BLOCK, 2), 2 * BLOCK);
    assert_eq!(fits(100, 3 * BLOCK, 2), 2 * BLOCK - 100, "its beginning lies in the middle of a block");
    assert_eq!(fits(0, 1, 0), 0);
    // One block, a hole of two blocks, and a part of one.
    file.write_all_at(&[1; BLOCK as usize], 0).unwrap();
    file.write_all_at(&[1; 10], 3 * BLOCK).unwrap();
    assert_eq!(fits(0, BLOCK, 0), BLOCK);
    assert_eq!(fits(10, BLOCK, 0), BLOCK - 10);
    assert_eq!(fits(0, 4 * BLOCK, 1), 2 * BLOCK);
    assert_eq!(fits(0, 4 * BLOCK, 2), 4 * BLOCK);
    assert_eq!(fits(3 * BLOCK + 10, 100, 0), 100, "the rest of its last block is its own");
    assert_eq!(fits(3 * BLOCK + 10, BLOCK, 0), BLOCK - 10);
}

#[test]
fn only_a_disk_without_any_room_excuses_an_end() {
    let refused = |left| {
        let disk = Arc::new(Disk::default());
        let ailing = disk.fill(left);
        let file = tempfile::tempfile().unwrap();
        let nothing_left = disk.write(&file, (0, 100 * BLOCK), |length| Ok(file.set_len(length)?));
        assert_eq!(nothing_left.is_err(), left == 0);
        file.write_all_at(&vec![1; left as usize], 0).unwrap();
        let _ = disk.reserve(&file, (0, 100 * BLOCK), || Ok(()));
        assert!(disk.refused_room());
        drop(ailing);
        disk
    };
    let disk = refused(0);
    assert!(disk.excuses(Ended::Exited(74), true) && disk.excuses(Ended::Exited(74), false));
    assert!(disk.excuses(Ended::Exited(1), false), "it could not start");
    for (ended, served) in [(Ended::Exited(1), true), (Ended::Exited(65), false), (Ended::KilledByOther(6), true)] {
        assert!(!disk.excuses(ended, served), "{ended}");
    }
    disk.begin_life();
    assert!(!disk.excuses(Ended::Exited(74), true) && !disk.refused_room(), "the next life was given no error");
    let promised = refused(64 << 10);
    assert!(!promised.excuses(Ended::Exited(74), true), "it promises to survive");
}

fn is_full<T>(done: io::Result<T>) -> bool {
    done.is_err_and(|error| error.kind() == ErrorKind::StorageFull)
}

#[test]
fn a_full_disk_takes_the_part_that_fits_and_has_room_again() {
    let Some(mut bench) = Bench::new() else { return };
    fs::write(bench.at("old"), [1; 3 * BLOCK as usize]).unwrap();
    let file = File::create(bench.at("new")).unwrap();
    let free = statvfs(&bench.at("")).unwrap().blocks_available();
    let ailing = bench.mount().disk().fill(5 * BLOCK);
    let room = statvfs(&bench.at("")).unwrap();
    assert_eq!(room.blocks_available() * room.fragment_size(), 5 * BLOCK);
    assert!(is_full(fallocate(&file, FallocateFlags::empty(), 0, 6 * BLOCK as i64).map_err(io::Error::from)));
    assert_eq!(file.write_at(&[2; 7 * BLOCK as usize], 0).unwrap(), 5 * BLOCK as usize, "a short write first");
    assert!(is_full(file.write_at(&[2; 100], 5 * BLOCK)));
    assert!(is_full(File::create(bench.at("third"))) && is_full(fs::create_dir(bench.at("dir"))));
    assert!(is_full(fs::hard_link(bench.at("old"), bench.at("link"))));
    assert_eq!(file.write_at(&[3; 5 * BLOCK as usize], 0).unwrap(), 5 * BLOCK as usize, "over what is there");
    assert_eq!(fs::read(bench.at("old")).unwrap(), [1; 3 * BLOCK as usize], "reads go on");
    fs::remove_file(bench.at("old")).unwrap();
    file.write_all_at(&[4; 3 * BLOCK as usize], 5 * BLOCK).unwrap();
    file.set_len(6 * BLOCK).unwrap();
    fs::write(bench.at("fourth"), [5; 100]).expect("what was cut off makes room");
    assert!(ailing.met() >= 7, "{ailing:?}");
    drop(ailing);
    file.write_all_at(&[6; 100 * BLOCK as usize], 0).unwrap();
    assert!(statvfs(&bench.at("")).unwrap().blocks_available() > free / 2);
    assert_eq!(bench.unmount().len(), 2);
}

/// A file's room is not given back while another name, or a grave, keeps it from the member's view.
#[test]
fn room_comes_back_with_the_last_name() {
    for names in [None, Some(ninelives_evidence::power::Names::Inode)] {
        let Some(bench) = Bench::with(names) else { return };
        fs::write(bench.at("a"), [1; 4 * BLOCK as usize]).unwrap();
        fs::hard_link(bench.at("a"), bench.at("b")).unwrap();
        fs::write(bench.at("c"), [1; 2 * BLOCK as usize]).unwrap();
        let _ailing = bench.mount().disk().fill(0);
        let left = || statvfs(&bench.at("")).map(|room| room.blocks_available() * room.fragment_size()).unwrap();
        fs::remove_file(bench.at("a")).unwrap();
        assert_eq!(left(), 0);
        fs::rename(bench.at("c"), bench.at("b")).unwrap();
        assert_eq!(left(), 4 * BLOCK);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Files never grow beyond what was left, for any writes in any order.
    #[test]
    fn files_grow_by_no_more_than_what_was_left(
        left in 0..40 * BLOCK,
        writes in prop::collection::vec((0..4_usize, 0..30 * BLOCK, 1..20_000_usize), 1..40),
    ) {
        let Some(bench) = Bench::new() else { return Ok(()) };
        let files: Vec<_> = (0..4).map(|name| File::create(bench.at(&name.to_string())).unwrap()).collect();
        let ailing = bench.mount().disk().fill(left);
        for (file, offset, length) in writes {
            match files[file].write_at(&vec![7; length], offset) {
                Ok(written) => prop_assert!(written > 0 && written <= length),
                Err(error) => prop_assert_eq!(error.kind(), ErrorKind::StorageFull),
            }
        }
        let used: u64 = files.iter().map(|file| file.metadata().unwrap().blocks() * 512).sum();
        prop_assert!(used <= left, "{} of {}", used, left);
        drop(ailing);
    }
}

#[test]
fn a_sync_fails_once_and_says_of_which_file() {
    let Some(mut bench) = Bench::new() else { return };
    fs::create_dir(bench.at("member")).unwrap();
    let file = File::create(bench.at("member/log")).unwrap();
    file.write_all_at(b"kept", 0).unwrap();
    let ailing = bench.mount().disk().fail_sync(false);
    File::open(bench.at("member")).unwrap().sync_all().expect("directories are left alone");
    assert_eq!((ailing.met(), ailing.failed().borrow().clone()), (0, None));
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
    assert_eq!((ailing.met(), ailing.failed().borrow().clone()), (1, Some("member/log".into())));
    assert!(bench.mount().disk().excuses(Ended::Exited(74), true) && !bench.mount().disk().refused_room());
    file.sync_data().expect("the next one is well");
    drop(ailing);
    // One that is asked for and taken back fails nothing.
    drop(bench.mount().disk().fail_sync(true));
    file.sync_data().unwrap();
    assert_eq!(bench.unmount()[std::path::Path::new("member/log")], b"kept");
}

/// What became of a file of two pages after a failed sync, a write over its second page, another
/// sync and a loss of power.
fn after_a_failed_sync(losing: bool) -> Option<Vec<u8>> {
    let mut bench = Bench::with(Some(ninelives_evidence::power::Names::Inode))?;
    let page = |byte| vec![byte; BLOCK as usize];
    let file = File::create(bench.at("log")).unwrap();
    file.write_all_at(&[page(1), page(1)].concat(), 0).unwrap();
    file.sync_all().unwrap();
    file.write_all_at(&[page(2), page(2)].concat(), 0).unwrap();
    let ailing = bench.mount().disk().fail_sync(losing);
    assert!(file.sync_all().is_err());
    drop(ailing);
    file.write_all_at(&page(3), BLOCK).unwrap();
    file.sync_all().unwrap();
    drop(file);
    bench.cut(0);
    let left = fs::read(bench.at("log")).unwrap();
    Some(vec![left[0], left[BLOCK as usize - 1], left[BLOCK as usize], left[2 * BLOCK as usize - 1]])
}

#[test]
fn a_later_sync_makes_durable_what_the_failed_one_kept_and_not_what_it_lost() {
    let (Some(kept), Some(lost)) = (after_a_failed_sync(false), after_a_failed_sync(true)) else { return };
    assert_eq!(kept, [2, 2, 3, 3]);
    assert_eq!(lost, [1, 1, 3, 3], "only what was written again is there");
}

fn access(name: &str) -> Access {
    Access::parse(name).unwrap()
}

/// A bench with a raft log of so many bytes, made before anything fails.
fn with_a_log(length: usize) -> Option<(Bench, File)> {
    let bench = Bench::new()?;
    fs::create_dir_all(bench.at("member/raft")).unwrap();
    let path = bench.at("member/raft/raft-log.redb");
    fs::write(&path, vec![1; length]).unwrap();
    Some((bench, File::options().read(true).write(true).open(path).unwrap()))
}

#[test]
fn a_write_fails_at_its_hit_and_leaves_a_part_of_it() {
    let Some((mut bench, log)) = with_a_log(0) else { return };
    let draws = || Seed::new(7).stream("parts");
    let ailing = bench.mount().disk().fail(access("raft-log.write"), (2, true), draws());
    fs::write(bench.at("other"), [9; 100]).expect("another file");
    assert_eq!(log.write_at(&[1; 4096], 0).unwrap(), 4096);
    assert_eq!(log.write_at(&[2; 4096], 4096).unwrap_err().raw_os_error(), Some(5));
    assert_eq!((ailing.met(), ailing.failed().borrow().clone()), (1, Some("member/raft/raft-log.redb".into())));
    let part = log.metadata().unwrap().len() as usize - 4096;
    assert!(bench.mount().disk().excuses(Ended::Exited(74), true) && bench.mount().disk().wrote_less());
    assert_eq!(log.write_at(&[3; 10], 8192).unwrap(), 10, "the next one is well");
    drop(ailing);
    let ailing = bench.mount().disk().fail(access("raft-log.write"), (1, false), draws());
    assert!((0..3).all(|_| log.write_at(&[4; 1], 0).is_err()) && ailing.met() == 3);
    assert!(fs::read(bench.at("member/raft/raft-log.redb")).is_ok(), "reads are well");
    drop(ailing);
    log.write_at(&[5; 1], 0).unwrap();
    bench.mount().disk().begin_life();
    assert!(!bench.mount().disk().excuses(Ended::Exited(74), true) && !bench.mount().disk().wrote_less());
    drop(log);
    let left = bench.unmount().remove(std::path::Path::new("member/raft/raft-log.redb")).unwrap();
    let expected = [vec![5], vec![1; 4095], vec![2; part], vec![0; 4096 - part], vec![3; 10]].concat();
    assert!(left == expected, "a prefix of {part} bytes");
}

#[test]
fn reads_fail_until_the_disk_is_well_and_give_nothing_wrong() {
    let Some((bench, log)) = with_a_log(100_000) else { return };
    let ailing = bench.mount().disk().fail(access("raft-log.read"), (1, false), Seed::new(7).stream("parts"));
    let mut bytes = vec![0; 10_000];
    // Opened anew: nothing of it is in the page cache.
    let again = File::open(bench.at("member/raft/raft-log.redb")).unwrap();
    for file in [&again, &log] {
        assert_eq!(file.read_at(&mut bytes, 50_000).unwrap_err().raw_os_error(), Some(5));
    }
    assert!(ailing.met() >= 2 && !bench.mount().disk().wrote_less());
    drop(ailing);
    again.read_exact_at(&mut bytes, 50_000).unwrap();
    assert!(bytes == [1; 10_000]);
}

#[test]
fn a_short_write_says_so_and_the_writer_writes_the_rest() {
    let Some((mut bench, log)) = with_a_log(0) else { return };
    let ailing = bench.mount().disk().shorten(access("raft-log.write"), Seed::new(7).stream("parts"));
    let written = log.write_at(&[1; 4096], 0).unwrap();
    assert!((1..4096).contains(&written), "{written}");
    log.write_all_at(&[2; 100_000], 0).unwrap();
    assert!(ailing.met() > 2 && bench.mount().disk().wrote_less());
    assert!(!bench.mount().disk().excuses(Ended::Exited(74), true), "POSIX allows it");
    drop((ailing, log));
    assert!(bench.unmount()[std::path::Path::new("member/raft/raft-log.redb")] == [2; 100_000]);
}

#[test]
fn a_slow_sync_is_answered_after_its_delay_or_when_the_disk_is_well() {
    let Some(bench) = Bench::new() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let slow = |by_ms| {
        let _within = runtime.enter();
        bench.mount().disk().slow(by_ms, Seed::new(7).stream("slow"))
    };
    let file = File::create(bench.at("log")).unwrap();
    let ailing = slow(20);
    (0..3).for_each(|_| file.sync_all().unwrap());
    assert_eq!(ailing.met(), 3);
    drop(ailing);
    // A delay of days ends with the ailment.
    let ailing = slow(1 << 32);
    let syncing = thread::spawn(move || file.sync_all());
    while ailing.met() == 0 {
        thread::yield_now();
    }
    drop(ailing);
    syncing.join().unwrap().unwrap();
}
