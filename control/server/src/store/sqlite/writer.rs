//! The one thread that writes.
//!
//! It takes what has queued up, runs each piece of work in its own savepoint, and commits once for all: a
//! piece that fails takes nothing with it, and many callers share the cost of one sync to disk. Nobody is
//! answered, and no event is announced, before the commit.

use std::{
    fs::File,
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use svidecar_code::Code;
use tokio::sync::{mpsc, oneshot, watch};

use super::{events, savepoint::isolated};
use crate::store::error::StoreError;

/// How many callers may wait.
const QUEUE: usize = 1024;
/// How many pieces of work share a commit.
const BATCH: usize = 256;

/// Why there is nothing left to commit.
const UNDONE: &str = "SQLite undid the transaction because of an earlier error of the disk";

/// A handle to the thread. Dropping it finishes what is queued, closes the database and waits for that.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Work>>>,
    changes: watch::Receiver<u64>,
    thread: Option<JoinHandle<()>>,
}

/// A piece of work, in two steps because its answer waits for the commit.
trait Work: Send {
    /// Does it; an error undoes it.
    fn run(&mut self, connection: &Connection) -> Result<(), ()>;
    /// Answers the caller; `commit` is why the transaction was lost, if it was.
    fn answer(self: Box<Self>, commit: Option<&str>);
}

struct Pending<T, F> {
    work: Option<F>,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Work for Pending<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, connection: &Connection) -> Result<(), ()> {
        let Some(work) = self.work.take() else { return Err(()) };
        let outcome = work(connection);
        let kept = outcome.as_ref().map(|_| ()).map_err(|_| ());
        self.outcome = Some(outcome);
        kept
    }

    fn answer(self: Box<Self>, commit: Option<&str>) {
        let outcome = match (self.outcome, commit) {
            (Some(Err(error)), _) => Err(error),
            (_, Some(reason)) => Err(StoreError::Commit { reason: reason.to_owned() }),
            (Some(done), None) => done,
            (None, None) => Err(StoreError::Closed),
        };
        // The caller may have gone away; what it asked for is done all the same.
        drop(self.reply.send(outcome));
    }
}

impl Writer {
    pub(super) fn start(connection: Connection, lock: File) -> Result<Self, StoreError> {
        let (changed, changes) = watch::channel(events::latest_position(&connection)?);
        let (queue, work) = mpsc::channel(QUEUE);
        let thread = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                write_until_closed(connection, work, &changed);
                drop(lock);
            })
            .map_err(StoreError::Thread)?;
        Ok(Self { queue: Some(queue), changes, thread: Some(thread) })
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        let pending = Pending { work: Some(work), outcome: None, reply };
        queue.send(Box::new(pending)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.take();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!(code = Code::StoreClosed.name(), "the database writer ended by a panic");
        }
    }
}

fn write_until_closed(
    connection: Connection,
    mut work: mpsc::Receiver<Box<dyn Work>>,
    changed: &watch::Sender<u64>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while work.blocking_recv_many(&mut batch, BATCH) > 0 {
        let committed = commit_batch(&connection, &mut batch);
        if let Ok(position) = committed {
            changed.send_if_modified(|latest| std::mem::replace(latest, position) != position);
        }
        let lost = committed.err().map(|error| match error {
            StoreError::Commit { reason } => reason,
            other => other.to_string(),
        });
        for done in batch.drain(..) {
            done.answer(lost.as_deref());
        }
    }
}

/// Runs all of the batch in one transaction and returns the position of its last event.
fn commit_batch(connection: &Connection, batch: &mut [Box<dyn Work>]) -> Result<u64, StoreError> {
    // Immediate: waits for a foreign writer here, rather than failing halfway.
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    for work in batch {
        // What failed is answered with its own error; the others go on.
        let _undone: Result<(), StoreError> =
            isolated(connection, || work.run(connection).map_err(|()| StoreError::Closed));
        // SQLite ends the whole transaction after some errors of the disk; the commit below could not tell why.
        if connection.is_autocommit() {
            return Err(StoreError::Commit { reason: UNDONE.to_owned() });
        }
    }
    let position = events::latest_position(connection)?;
    transaction.commit()?;
    Ok(position)
}
