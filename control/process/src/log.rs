//! Where the log setting takes effect.
//!
//! Logs go to standard error: standard output belongs to the access log and to what a command prints. Nobody who logs waits for
//! whoever reads: lines go through a bounded queue (`queue`) and one thread, panics among them.

mod queue;

use std::{backtrace::BacktraceStatus, io::stderr, panic, sync::OnceLock, time::Duration};

use svidecar_code::Code;
use svidecar_config::{
    InvalidValue,
    log::{LogFormat, LogSettings},
};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use self::queue::Queue;
use crate::{
    console::shows_colours,
    metrics::{Kind, Page},
    throttle,
};

/// How long the last lines may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The log of this process.
static LOG: OnceLock<Queue> = OnceLock::new();

/// Logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is none.
    #[error(transparent)]
    Level(#[from] InvalidValue),
    /// Someone else in this process logs already.
    #[error("logging was set up twice in one process: {0}")]
    Twice(#[from] TryInitError),
    /// The system gives no thread.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(#[from] std::io::Error),
}

impl LogError {
    /// The stable code of the error.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Level(_) => Code::InvalidLogLevel,
            Self::Twice(_) => Code::LoggingSetUpTwice,
            Self::Thread(_) => Code::SystemRefused,
        }
    }
}

/// The log, for as long as the program runs. What waits when it is dropped, in a panic as well, is written if somebody reads it
/// within a second.
#[must_use]
pub struct Log(());

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(queue) = LOG.get() {
            queue.flush(LAST_WORDS);
        }
    }
}

/// Starts logging to standard error, for the whole process and for good.
///
/// # Errors
/// When logging was started before, or the system gives no thread.
pub fn init(settings: &LogSettings) -> Result<Log, LogError> {
    let filter = settings.level.filter()?;
    let queue = Queue::new();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(queue.clone())
        .with_ansi(settings.format == LogFormat::Text && shows_colours(&stderr()));
    match settings.format {
        LogFormat::Text => builder.with_target(false).finish().try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).finish().try_init()?,
    }
    queue.start(stderr())?;
    // Only one can be begun in a process, as was just seen.
    LOG.get_or_init(|| queue);
    panic::set_hook(Box::new(say_panic));
    Ok(Log(()))
}

/// Whether lines wait that nobody reads.
pub(crate) fn is_stuck() -> bool {
    LOG.get().is_some_and(Queue::is_waiting)
}

/// What a panic says goes the way of all lines: written at once, it would keep the thread from unwinding until somebody reads.
fn say_panic(info: &panic::PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("a value that is no text");
    let place = info.location().map(tracing::field::display);
    let thread = std::thread::current();
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(backtrace));
    tracing::error!(place, thread = thread.name(), backtrace, "A thread panicked: {message}");
}

/// Writes what did not become a line.
pub fn write(page: &mut Page) {
    let name = "svidecar_log_dropped_lines_total";
    page.family(name, Kind::Counter, "Lines of the log that were lost, because nobody read them.");
    page.sample(name, &[], LOG.get().map_or(0, Queue::dropped));
    let name = "svidecar_lines_kept_back_total";
    page.family(
        name,
        Kind::Counter,
        "Lines of the logs that were kept back, because their cause made too many.",
    );
    page.sample(name, &[], throttle::kept_back());
}
