//! The open files that this process may have, and those that nobody but itself ever takes.
//!
//! Owns the limit of open files: raised at start, lowered again for the command after `--`. The highest numbers are a reserve
//! for admin, logs, files and identity. The kernel gives the lowest number that is free, so that what connections may keep is told
//! by its number alone ([`Descriptors::admits`]): nothing is counted, and the reserve cannot be lost by counting wrong.
//! It must never close what somebody uses.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
    sync::{
        LazyLock, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

use crate::{
    clock,
    metrics::{Kind, Page},
    throttle::Throttle,
};

/// The part of the table that is ours alone, and its bounds: an admin connection, a log and the identity need a few, a
/// database some more.
const RESERVE_PART: u64 = 8;
const SMALLEST_RESERVE: u64 = 32;
const LARGEST_RESERVE: u64 = 512;

/// What a program has open before its first connection.
const OPEN_FROM_THE_START: u64 = 24;

/// How often running out is said.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// How the table is divided. Numbers of descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// All that may be open.
    limit: u64,
    /// Where the reserve begins.
    ceiling: u64,
}

/// What was found at start, and what came of it.
#[derive(Clone, Copy)]
struct Table {
    found: Rlimit,
    raised: Rlimit,
}

static TABLE: OnceLock<Table> = OnceLock::new();

/// Only one command at a time is started under the limit that was found.
static STARTING: Mutex<()> = Mutex::new(());

static REFUSED: AtomicU64 = AtomicU64::new(0);

static SAID: LazyLock<Throttle> = LazyLock::new(|| Throttle::new(1, SAY_AGAIN));

impl Descriptors {
    /// A table of so many.
    const fn of(limit: u64) -> Self {
        let part = limit / RESERVE_PART;
        let reserve = match part {
            ..SMALLEST_RESERVE => SMALLEST_RESERVE,
            LARGEST_RESERVE.. => LARGEST_RESERVE,
            part => part,
        };
        let reserve = if reserve > limit / 2 { limit / 2 } else { reserve };
        Self { limit, ceiling: limit - reserve }
    }

    /// Whether a connection may keep this descriptor. One that may not is to be closed at once: it is of the reserve.
    pub fn admits(self, descriptor: impl AsFd) -> bool {
        u64::try_from(descriptor.as_fd().as_raw_fd()).is_ok_and(|number| number < self.ceiling)
    }

    /// The same for a connection that we dial. These leave an eighth to those that we accept, so that somebody whose requests
    /// wait at an app cannot keep others from being heard.
    pub fn admits_dialled(self, descriptor: impl AsFd) -> bool {
        let ceiling = self.ceiling - self.ceiling / RESERVE_PART;
        u64::try_from(descriptor.as_fd().as_raw_fd()).is_ok_and(|number| number < ceiling)
    }

    /// How many connections there can be, all together.
    #[must_use]
    pub fn for_connections(self) -> usize {
        usize::try_from(self.ceiling.saturating_sub(OPEN_FROM_THE_START)).unwrap_or(usize::MAX).max(1)
    }

    /// How many connections of operators and probes there can be: half of the reserve.
    #[must_use]
    pub fn for_operators(self) -> usize {
        usize::try_from((self.limit - self.ceiling) / 2).unwrap_or(usize::MAX).max(1)
    }
}

/// How the table of this process is divided.
#[must_use]
pub fn table() -> Descriptors {
    let Table { raised, .. } = TABLE.get_or_init(|| {
        let found = getrlimit(Resource::Nofile);
        Table { found, raised: found }
    });
    Descriptors::of(raised.current.unwrap_or(u64::MAX))
}

/// Raises the limit to what the system allows us. Called once, before anything is opened; the command after `--` gets the limit
/// that was found ([`with_the_limit_found`]).
pub fn raise() {
    let found = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: found.maximum, maximum: found.maximum };
    let raised = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => wanted,
        Err(error) => {
            warn!(%error, limit = found.current, "Cannot raise the limit of open files");
            found
        }
    };
    let Table { raised, .. } = TABLE.get_or_init(|| Table { found, raised });
    debug!(
        found = found.current,
        limit = raised.current,
        for_connections = table().for_connections(),
        "The limit of open files"
    );
}

/// Runs `start` with the limit of open files that this process was started with, which what it starts inherits. Programs that walk
/// through all numbers up to the limit, or that use select(2), rely on a small one.
///
/// For that moment nothing of ours gets a number above the limit that was found.
pub fn with_the_limit_found<T>(start: impl FnOnce() -> T) -> T {
    let Some(Table { found, raised }) =
        TABLE.get().filter(|table| table.found.current != table.raised.current)
    else {
        return start();
    };
    let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let lowered = setrlimit(Resource::Nofile, *found);
    let started = start();
    if let Err(error) = lowered.and_then(|()| setrlimit(Resource::Nofile, *raised)) {
        warn!(%error, "Cannot change the limit of open files for what is started");
    }
    started
}

/// Whether the error says that there is no descriptor left, in this process or in the whole system.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    matches!(errno, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
}

/// A connection was not taken for want of a descriptor: counts it, and says so once in a while. `whose` is a word for the log:
/// which connections these are.
pub fn refused(whose: &str) {
    REFUSED.fetch_add(1, Ordering::Relaxed);
    if let Some(leave) = SAID.leave(clock::monotonic()) {
        let table = table();
        warn!(
            connections = whose,
            limit = table.limit,
            reserve = table.limit - table.ceiling,
            kept_back = leave.kept_back,
            "Out of descriptors: a connection is refused. Raise the limit of open files (`ulimit -Hn`, or `LimitNOFILE=` of \
             systemd), or lower the limits of connections"
        );
    }
}

/// Writes how many are open, may be, and were missing.
pub fn write(page: &mut Page) {
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        page.family("process_open_fds", Kind::Gauge, "Open descriptors.");
        // One of them is the directory.
        page.sample("process_open_fds", &[], open.count().saturating_sub(1));
    }
    page.family("process_max_fds", Kind::Gauge, "Descriptors that may be open.");
    page.sample("process_max_fds", &[], table().limit);
    let name = "svidecar_descriptors_refused_total";
    page.family(name, Kind::Counter, "Connections that were refused for want of a descriptor.");
    page.sample(name, &[], REFUSED.load(Ordering::Relaxed));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_part_of_the_table_within_bounds() {
        for (limit, reserve) in [(64, 32), (128, 32), (1024, 128), (20_000, 512), (1 << 30, 512), (20, 10)] {
            let table = Descriptors::of(limit);
            assert_eq!(table.limit - table.ceiling, reserve, "{limit}");
        }
        assert_eq!(Descriptors::of(1024).for_connections(), 1024 - 128 - 24);
        assert_eq!(Descriptors::of(1024).for_operators(), 64);
        assert_eq!(Descriptors::of(20).for_connections(), 1);
    }

    #[test]
    fn a_number_of_the_reserve_is_not_kept() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let number = u64::try_from(file.as_raw_fd()).unwrap();
        let table = |ceiling| Descriptors { limit: u64::MAX, ceiling };
        assert!(table(number + 1).admits(&file) && !table(number).admits(&file));
        let dialled = (1..).find(|ceiling| table(*ceiling).admits_dialled(&file)).unwrap();
        assert_eq!(dialled - dialled / RESERVE_PART, number + 1);
    }

    #[test]
    fn running_out_is_known() {
        assert!(is_exhausted(&rustix::io::Errno::MFILE.into()));
        assert!(is_exhausted(&rustix::io::Errno::NFILE.into()));
        assert!(!is_exhausted(&io::ErrorKind::ConnectionAborted.into()));
    }
}
