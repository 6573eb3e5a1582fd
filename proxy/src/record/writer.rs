//! The thread that writes the access log, and the batches in which lines reach it.
//!
//! Owns the file. Batches come through a bounded queue; when it is full a batch is dropped and its lines are counted,
//! because a slow disk must never slow a request. Half of the queue is for what is done by those who may: the rest is given up
//! before. That lines were lost is said once some could be written again. The thread sleeps while there is nothing to write.

mod sink;
#[cfg(test)]
mod tests;

use std::{
    io, mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use metrics::Counter;
use svidecar_config::proxy::AccessLogPath;
use svidecar_process::{Throttle, clock};

use self::sink::Sink;

/// Most batches that wait to be written: 4 MiB, or more only if single lines are larger than a batch should be.
const QUEUE_BATCHES: usize = 128;
/// From so many on, nothing is added but what is done by those who may.
const CROWDED_BATCHES: usize = QUEUE_BATCHES / 2;
/// A batch of this many bytes is full.
const BATCH_BYTES: usize = 32 * 1024;
/// What a batch has room for, so that the line that fills it does not move it.
const BATCH_CAPACITY: usize = BATCH_BYTES + 4 * 1024;
/// How often it is said that lines are lost.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// Empty batches that are kept for the workers while there is much to write.
const MOST_SPARE: usize = 8;

/// Lines of one worker on their way to the file.
#[derive(Default)]
pub(super) struct Batch {
    text: Vec<u8>,
    lines: u64,
}

impl Batch {
    /// Adds the line that `encode` appends. An empty batch gets memory that another one has left.
    pub(super) fn add(&mut self, writer: &Writer, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.text.capacity() == 0 {
            self.text = writer.spare.take();
        }
        encode(&mut self.text);
        self.lines += 1;
    }

    /// Whether nothing is in it.
    pub(super) const fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Whether it should be handed over now.
    pub(super) const fn is_full(&self) -> bool {
        self.text.len() >= BATCH_BYTES
    }

    /// Leaves an empty batch.
    pub(super) const fn take(&mut self) -> Self {
        mem::replace(self, Self { text: Vec::new(), lines: 0 })
    }
}

/// Memory of batches that were written.
#[derive(Default)]
struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    fn take(&self) -> Vec<u8> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| Vec::with_capacity(BATCH_CAPACITY))
    }

    /// Keeps the memory of a full batch: another one will follow soon. What comes by time is little and leaves nothing, so
    /// that an idle proxy owns no buffers.
    fn give(&self, mut text: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if text.len() < BATCH_BYTES {
            kept.clear();
            kept.shrink_to_fit();
        } else if kept.len() < MOST_SPARE && text.capacity() <= 2 * BATCH_CAPACITY {
            text.clear();
            kept.push(text);
        }
    }
}

enum Message {
    Batch(Batch),
    Reopen,
    /// Write everything and answer.
    Close(SyncSender<()>),
}

/// What the workers and the thread know of the queue.
struct Backlog {
    /// Batches that wait, or are being written.
    batches: AtomicUsize,
    /// Lines that were lost, until that is said.
    lost: AtomicU64,
    dropped: Counter,
}

impl Backlog {
    fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
        self.dropped.increment(lines);
    }
}

/// A handle to the writing thread.
pub(super) struct Writer {
    queue: SyncSender<Message>,
    spare: Arc<Spare>,
    backlog: Arc<Backlog>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Writer {
    /// Opens the destination and starts the thread.
    pub(super) fn start(path: &AccessLogPath, dropped: Counter) -> io::Result<Self> {
        Self::start_with(Sink::open(path)?, dropped)
    }

    fn start_with(sink: Sink, dropped: Counter) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE_BATCHES);
        let spare = Arc::<Spare>::default();
        let backlog = Arc::new(Backlog { batches: AtomicUsize::new(0), lost: AtomicU64::new(0), dropped });
        let (left, behind) = (Arc::clone(&spare), Arc::clone(&backlog));
        let thread = thread::Builder::new()
            .name("access-log".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || write_all(&messages, sink, &behind, &left))?;
        Ok(Self { queue, spare, backlog, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a batch, or drops it when too many wait.
    pub(super) fn write(&self, batch: Batch) {
        let lines = batch.lines;
        if lines == 0 {
            return;
        }
        self.backlog.batches.fetch_add(1, Ordering::Relaxed);
        if self.queue.try_send(Message::Batch(batch)).is_err() {
            self.backlog.batches.fetch_sub(1, Ordering::Relaxed);
            self.backlog.lose(lines);
        }
    }

    /// Whether what is left of the queue is for those who may do what they do.
    pub(super) fn is_crowded(&self) -> bool {
        self.backlog.batches.load(Ordering::Relaxed) >= CROWDED_BATCHES
    }

    #[cfg(test)]
    pub(super) fn pretend_to_be_crowded(&self) {
        self.backlog.batches.store(CROWDED_BATCHES, Ordering::Relaxed);
    }

    /// A line is given up.
    pub(super) fn drop_line(&self) {
        self.backlog.lose(1);
    }

    /// Opens the file again. When the queue is full the next call does it.
    pub(super) fn reopen(&self) {
        let _ = self.queue.try_send(Message::Reopen);
    }

    /// Writes what waits and ends the thread. If that takes longer than `deadline`, it is left behind.
    pub(super) fn close(&self, deadline: Duration) {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let (done, closed) = sync_channel(1);
        // A full queue means that the destination is stuck; then there is nothing to wait for.
        if self.queue.try_send(Message::Close(done)).is_ok() && closed.recv_timeout(deadline).is_ok() {
            let _ = thread.join();
        }
    }
}

fn write_all(messages: &Receiver<Message>, mut sink: Sink, backlog: &Backlog, spare: &Spare) {
    let mut healthy = true;
    let said = Throttle::new(1, SAY_AGAIN);
    while let Ok(message) = messages.recv() {
        match message {
            Message::Batch(batch) => {
                if let Err(error) = sink.write(&batch.text) {
                    backlog.lose(batch.lines);
                    // Said once, not for every line of a full disk.
                    if mem::replace(&mut healthy, false) {
                        tracing::warn!(%error, "The access log cannot be written; lines are lost");
                    }
                } else {
                    if !mem::replace(&mut healthy, true) {
                        tracing::info!("The access log is written again");
                    }
                    if backlog.lost.load(Ordering::Relaxed) > 0 && said.leave(clock::monotonic()).is_some() {
                        let lines = backlog.lost.swap(0, Ordering::Relaxed);
                        tracing::warn!(
                            lines,
                            "Lines of the access log were lost: it could not be written, or not as fast as they came"
                        );
                    }
                }
                backlog.batches.fetch_sub(1, Ordering::Relaxed);
                spare.give(batch.text);
            }
            Message::Reopen => sink.reopen(),
            Message::Close(done) => {
                let _ = done.send(());
                return;
            }
        }
    }
}
