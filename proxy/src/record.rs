//! What is written down about each request and each connection.
//!
//! Owns the access log and the metrics: one [`Record`] is one line and one set of metrics. Telemetry fails
//! soft: a full disk or a slow reader costs lines, which are counted, and never a request. Labels come from
//! configuration, never from what a peer sends; the number of series has a hard bound.
//!
//! Each worker counts in cells and gathers lines in a batch of its own. A batch goes to the thread that writes when it is
//! full, or 100 ms after its first line, so a crash costs the lines of that time at most.

mod append;
mod clock;
mod exchange;
mod facts;
mod line;
mod metrics;
mod writer;

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::Poll,
    time::Duration,
};

use futures_util::task::AtomicWaker;
use svidecar_config::proxy::{AccessLogFormat, AccessLogSettings};
use tokio_util::sync::CancellationToken;

use self::metrics::{Counters, Metrics};
pub use self::metrics::{OpenConnections, State};
use clock::WallClock;
pub use exchange::{Decided, Origin, Recording};
pub use facts::{Direction, HttpFacts, Record, Ruling};
use writer::{Batch, Writer};

/// How long a line waits for others at most.
const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// The access log and the metrics of a proxy. One value for all workers.
pub struct Telemetry {
    metrics: Metrics,
    format: AccessLogFormat,
    writer: Option<Writer>,
    /// What the workers have not handed over yet.
    workers: Mutex<Vec<Weak<Own>>>,
}

impl Telemetry {
    /// Opens the access log and starts the thread that writes it.
    ///
    /// # Errors
    /// When the file of the access log cannot be opened or the thread cannot be started.
    pub fn start(settings: &AccessLogSettings) -> io::Result<Arc<Self>> {
        let metrics = Metrics::new();
        let writer = match settings.format {
            AccessLogFormat::Off => None,
            AccessLogFormat::Json | AccessLogFormat::Text => {
                Some(Writer::start(&settings.path, metrics.dropped_lines())?)
            }
        };
        Ok(Arc::new(Self { metrics, format: settings.format, writer, workers: Mutex::default() }))
    }

    /// The recorder of one worker. Each worker has its own, so that none waits for another.
    #[must_use]
    pub fn recorder(self: &Arc<Self>) -> Recorder {
        let state =
            OwnState { counters: self.metrics.counters(), clock: WallClock::new(), batch: Batch::default() };
        let own = Arc::new(Own { state: Mutex::new(state), first_line: AtomicWaker::new() });
        let mut workers = lock(&self.workers);
        workers.retain(|worker| worker.strong_count() > 0);
        workers.push(Arc::downgrade(&own));
        drop(workers);
        Recorder { telemetry: Arc::clone(self), own }
    }

    /// Gauges and counters of the proxy's own state, for those who know it.
    #[must_use]
    pub const fn state(&self) -> &State {
        self.metrics.state()
    }

    /// All metrics, to be served as [`Page::CONTENT_TYPE`](svidecar_process::metrics::Page::CONTENT_TYPE).
    #[must_use]
    pub fn render(&self) -> String {
        self.metrics.render()
    }

    /// Keeps the metrics from growing while nobody looks, until `stop`.
    pub fn keep_up(&self, stop: CancellationToken) -> impl Future<Output = ()> + use<> {
        self.metrics.keep_up(stop)
    }

    /// Opens the file of the access log again, after it was rotated away. What was recorded before goes to the old file.
    pub fn reopen(&self) {
        if let Some(writer) = &self.writer {
            self.flush();
            writer.reopen();
        }
    }

    /// Writes what is still to be written, for at most `deadline`. What is recorded later is dropped.
    pub fn close(&self, deadline: Duration) {
        if let Some(writer) = &self.writer {
            self.flush();
            writer.close(deadline);
        }
    }

    /// Hands over what all workers have gathered.
    fn flush(&self) {
        let workers: Vec<_> = lock(&self.workers).iter().filter_map(Weak::upgrade).collect();
        workers.iter().for_each(|own| own.flush(self.writer.as_ref()));
    }
}

/// Writes records down, for one worker.
pub struct Recorder {
    telemetry: Arc<Telemetry>,
    own: Arc<Own>,
}

/// What belongs to one worker. The lock is there for closing and reopening the log: nobody else ever takes it.
// Two lines of cache, because processors fetch them in pairs.
#[repr(align(128))]
struct Own {
    state: Mutex<OwnState>,
    /// Wakes [`Recorder::keep_flushed`] when there is something to flush.
    first_line: AtomicWaker,
}

struct OwnState {
    counters: Counters,
    clock: WallClock,
    batch: Batch,
}

impl Recorder {
    /// Writes one line and counts. Never waits and never fails.
    pub fn record(&self, record: &Record<'_>) {
        let mut state = lock(&self.own.state);
        let OwnState { counters, clock, batch } = &mut *state;
        counters.count(record);
        let Some(writer) = self.telemetry.writer.as_ref().filter(|_| record.leave.is_some()) else { return };
        if !record.is_of_allowed() && writer.is_crowded() {
            return writer.drop_line();
        }
        let is_first = batch.is_empty();
        let stamp = clock.stamp(record.started, record.started + record.duration);
        let encode = match self.telemetry.format {
            AccessLogFormat::Text => line::text,
            AccessLogFormat::Json | AccessLogFormat::Off => line::json,
        };
        batch.add(writer, |out| encode(out, stamp, record));
        if batch.is_full() {
            writer.write(batch.take());
        } else if is_first {
            drop(state);
            self.own.first_line.wake();
        }
    }

    /// Hands over the lines that nothing else hands over in time. To be run beside the worker's other tasks; never ends,
    /// and sleeps while there are no lines.
    pub async fn keep_flushed(&self) -> Infallible {
        loop {
            poll_fn(|cx| {
                self.own.first_line.register(cx.waker());
                if lock(&self.own.state).batch.is_empty() { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            tokio::time::sleep(FLUSH_AFTER).await;
            self.own.flush(self.telemetry.writer.as_ref());
        }
    }

    /// What all workers share.
    #[must_use]
    pub const fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.own.flush(self.telemetry.writer.as_ref());
    }
}

impl Own {
    fn flush(&self, writer: Option<&Writer>) {
        let batch = lock(&self.state).batch.take();
        if let Some(writer) = writer {
            writer.write(batch);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
