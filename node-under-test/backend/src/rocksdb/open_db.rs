//! One open database and the persister of its life. Opening reads E; closing is a kill without the
//! kill: nothing is flushed, and when it returns nothing can write N any more (claim 8).

use super::capture::Capture;
use super::image::RowsOf;
use super::listener::Listener;
use super::options;
use super::rows::engine_error;
use crate::durability::{Event, Persister, Progress};
use crate::engine::EngineOptions;
use crate::last_flushed_index::IndexFile;
use crate::layout::DataDir;
use crate::lock;
use node_base::LogId;
use node_base::backend::{BackendError, Result, consistent_index};
use node_base::durable::remedy;
use node_base::watermarks::Watermarks;
use rocksdb::DB;
use std::convert::Infallible;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A database that announces its own closing when its last share is dropped.
pub(super) struct OpenDb {
    /// Declared, and so closed, before `_closed` is dropped.
    pub db: DB,
    _closed: Sender<Infallible>,
}

impl std::borrow::Borrow<DB> for OpenDb {
    fn borrow(&self) -> &DB {
        &self.db
    }
}

pub(super) struct OpenEngine {
    pub db: Arc<OpenDb>,
    pub progress: Arc<Progress>,
    pub events: Sender<Event>,
    /// E, as this database was opened.
    pub at_open: Option<LogId>,
    closed: Mutex<Receiver<Infallible>>,
    keeper: Mutex<Keeper>,
}

/// The holder of the index file.
enum Keeper {
    /// Opened, not attached: events queue up in the channel, so none is lost and none is persisted
    /// early.
    Waiting(IndexFile, Receiver<Event>),
    Running(JoinHandle<IndexFile>),
    Gone,
}

impl OpenEngine {
    /// Opens the database of `dir`. It is created only where there is no N: an N without a database
    /// is damage.
    pub fn open(dir: &DataDir, chosen: &EngineOptions, index: IndexFile) -> Result<Self> {
        let path = dir.db();
        let create = index.value().is_none();
        if !create && !path.join("CURRENT").exists() {
            return Err(BackendError::corrupt(format!(
                "{} holds no database, but last-flushed-index says that index {:?} was flushed into it: restore the directory \
                 from a backup, or remove this member and add it again under a new id",
                path.display(),
                index.value().unwrap_or_default()
            )));
        }
        let (events, heard) = mpsc::channel();
        let progress = Arc::new(Progress::default());
        let capture =
            Capture { progress: progress.clone(), index_path: dir.last_flushed_index(), at_begin: Mutex::new(None) };
        let live = options::live(chosen, create, Listener { events: events.clone(), capture });
        let db = DB::open(&live, &path).map_err(|error| {
            let next = remedy(error.as_ref()).unwrap_or(
                "rocksdb never leaves that behind after a kill: restore the directory from a backup, or remove this member and \
                 add it again under a new id",
            );
            engine_error(error).advising(format!("cannot open {}", path.display()), next)
        })?;
        let at_open = consistent_index(&RowsOf(&db))?;
        let (closed_sender, closed) = mpsc::channel();
        Ok(Self {
            db: Arc::new(OpenDb { db, _closed: closed_sender }),
            progress,
            events,
            at_open,
            closed: Mutex::new(closed),
            keeper: Mutex::new(Keeper::Waiting(index, heard)),
        })
    }

    /// N = `image`, by the hand that still holds the file.
    pub fn finish_install(&self, image: LogId) -> Result<()> {
        match &mut *lock(&self.keeper) {
            Keeper::Waiting(index, _) => {
                index.advance(image.index).map_err(|error| BackendError::io("writing last-flushed-index", error))
            }
            _ => Err(BackendError::refused("an install is finished before the engine is attached")),
        }
    }

    /// Starts the persister.
    pub fn attach(&self, marks: Arc<Watermarks>) -> Result<()> {
        let mut keeper = lock(&self.keeper);
        let Keeper::Waiting(index, events) = std::mem::replace(&mut *keeper, Keeper::Gone) else {
            return Err(BackendError::refused("the engine is attached already"));
        };
        let db = Arc::downgrade(&self.db);
        let start_flush = move || {
            if let Some(db) = db.upgrade()
                && let Err(error) = db.db.flush_opt(&options::flush(false))
            {
                // A flush that fails raises a background error too, and that one ends the process.
                tracing::error!("asking for a flush: {error}");
            }
        };
        let persister = Persister { index, marks, progress: self.progress.clone(), start_flush: Box::new(start_flush) };
        let thread = std::thread::Builder::new().name("persist-n".into()).spawn(move || persister.run(events));
        *keeper = Keeper::Running(thread.map_err(|error| BackendError::io("starting the persister", error))?);
        Ok(())
    }

    /// Waits until N is at least `id`. The caller knows that the SSTs hold `id`.
    pub fn persist_proven(&self, id: LogId) -> Result<()> {
        if matches!(*lock(&self.keeper), Keeper::Waiting(..)) {
            return Err(BackendError::refused("the engine must be attached before it is flushed"));
        }
        let (done, heard) = mpsc::sync_channel(1);
        let closing = |_| BackendError::closed("the engine is being closed");
        self.events.send(Event::Proven { id, done }).map_err(|_| closing(()))?;
        heard.recv().map_err(|_| closing(()))
    }

    pub fn flush(&self) -> Result<()> {
        self.db.db.flush_opt(&options::flush(true)).map_err(engine_error)
    }

    /// Closes the database: waits for the last reader, then for RocksDB's threads, then for the
    /// persister, and takes the index file back.
    pub fn close(self) -> Result<IndexFile> {
        drop(self.db);
        // Nothing is ever sent: this wakes up when the last share of the database is gone and
        // closed.
        let _ = lock(&self.closed).recv();
        let _ = self.events.send(Event::Closed);
        match self.keeper.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Keeper::Waiting(index, _) => Ok(index),
            Keeper::Running(thread) => thread.join().map_err(|_| BackendError::closed("the persister panicked")),
            Keeper::Gone => Err(BackendError::closed("the persister never started")),
        }
    }
}
