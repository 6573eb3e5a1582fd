//! What every program of svidecar is, whatever it does: a command line with its console and settings, a log and metrics, a clock,
//! pages for probes, signals, descriptors, the shares that strangers have, and the command after `--` that it may run.
//!
//! The binaries stand on it. It must never know one of them, nor what only one of them needs.

pub mod accept;
pub mod args;
pub mod backoff;
pub mod child;
pub mod clock;
pub mod command;
pub mod console;
pub mod descriptors;
pub mod error;
pub mod http;
pub mod log;
pub mod loopback;
pub mod memory;
pub mod metrics;
pub mod private;
pub mod settings;
pub mod shares;
pub mod signals;
pub mod source;
pub mod tasks;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod throttle;
pub mod waiting;

pub use backoff::Backoff;
pub use child::Child;
pub use clock::Clock;
pub use console::Console;
pub use error::WrapperError;
pub use metrics::Metrics;
pub use shares::{Share, Shares};
pub use signals::{Received, Signals, Termination, is_termination};
pub use source::Source;
pub use tasks::Tasks;
pub use throttle::Throttle;
pub use waiting::{Guest, Waiting};
