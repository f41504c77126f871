//! Groups whose sync fails. What would go on after that ends the process, so it runs in one of its
//! own.

use super::*;
use crate::EXIT_STORAGE;
use ::redb::StorageBackend;
use ::redb::backends::FileBackend;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

/// A file whose syncs fail once they are told to. What was written is there all the same, as in the
/// page cache.
#[derive(Debug)]
struct FailingSync {
    file: FileBackend,
    fails: Arc<AtomicBool>,
}

impl StorageBackend for FailingSync {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.fails.load(Ordering::SeqCst) { Err(io::Error::other("injected")) } else { self.file.sync_data() }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

/// A member with one entry in the group that is under way, whose sync is going to fail.
fn with_a_group_that_cannot_be_synced(dir: &Path) -> RedbBackend {
    let backend = RedbBackend::open(DataDir::new(dir), &EngineOptions::default()).unwrap();
    backend.attach(Arc::new(Watermarks::at_start(None, None, Some(9)))).unwrap();
    drop(backend.replace_db(None));
    let file = std::fs::File::options().read(true).write(true).open(backend.dir.db()).unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let failing = FailingSync { file: FileBackend::new(file).unwrap(), fails: fails.clone() };
    backend.replace_db(Some(Arc::new(Database::builder().create_with_backend(failing).unwrap())));
    let mut batch = Batch::default();
    batch.put(Bucket::Key, "k", "v");
    backend.commit(batch, LogId::new(1, 1)).unwrap();
    fails.store(true, Ordering::SeqCst);
    backend
}

/// Everything that settles a group.
const ASKERS: [&str; 6] = ["settle", "flush", "snapshot", "defrag", "close", "install"];

fn ask(backend: &RedbBackend, asker: &str) -> String {
    match asker {
        "settle" => format!("{:?}", backend.settle()),
        "flush" => format!("{:?}", backend.flush()),
        "snapshot" => format!("{:?}", backend.snapshot().map(|_| "an image")),
        "defrag" => format!("{:?}", backend.defrag()),
        "close" => format!("{:?}", backend.close()),
        "install" => format!("{:?}", backend.install_snapshot(LogId::new(1, 9), &mut || Ok(()))),
        other => panic!("not one of {ASKERS:?}: {other}"),
    }
}

/// Say to the child process below which directory is its own, and who asks.
const CHILD_DIR: &str = "NINELIVES_TEST_REDB_DIR";
const CHILD_ASKER: &str = "NINELIVES_TEST_REDB_ASKER";

#[test]
#[ignore = "the child process of the test below"]
fn child_whose_group_cannot_be_synced() {
    let (Ok(dir), Ok(asker)) = (std::env::var(CHILD_DIR), std::env::var(CHILD_ASKER)) else { return };
    let backend = with_a_group_that_cannot_be_synced(Path::new(&dir));
    let outcome = ask(&backend, &asker);
    panic!("went on after a failed sync: {outcome}");
}

/// The next sync may succeed and prove nothing about the pages that this one dropped; a client that
/// asked for a snapshot would be the only one to hear of it.
#[test]
fn claim_2_a_failed_sync_of_a_group_ends_the_process_whoever_asked_for_it() {
    for asker in ASKERS {
        let tmp = tempfile::tempdir().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--nocapture", "--exact", "redb::tests::child_whose_group_cannot_be_synced"])
            .env(CHILD_DIR, tmp.path())
            .env(CHILD_ASKER, asker)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.code(), Some(EXIT_STORAGE), "{asker}: {said}");
        assert!(said.contains("syncing ") && said.contains("injected"), "{asker}: {said}");
    }
}
