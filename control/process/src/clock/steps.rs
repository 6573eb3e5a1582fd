//! Tells when the time of day jumped: somebody set the clock, or the machine woke up.
//!
//! Timers count the time that the machine is awake. Whoever waits for a time of day looks again when it jumped. The system
//! says so at once by a timer that ends when the clock is set; where it has none, and for a guest whose host moved it,
//! the clocks are compared now and then.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
    time::Instant,
};

use super::reading::{Reading, timer as timer_now};

/// How often the clocks are compared.
const LOOK: Duration = Duration::from_secs(30);

/// When the timer would end by itself: in the year 2242.
const NEVER: i64 = 1 << 33;

/// The jumps of a clock, one after the other.
pub struct Steps(Source);

/// The machine's clock, and how it was at the last look.
struct System {
    timer: Option<AsyncFd<OwnedFd>>,
    last: Reading,
    look_at: Instant,
}

enum Source {
    System(Box<System>),
    Told(watch::Receiver<u64>),
    None,
}

impl Steps {
    /// Those of the machine's clock from now on. To be called inside a runtime.
    #[must_use]
    pub fn of_system() -> Self {
        let timer = cancelled_when_set().inspect_err(|error| {
            tracing::debug!(%error, "the system does not tell when its clock is set; it is compared now and then");
        });
        Self(Source::System(Box::new(System {
            timer: timer.ok(),
            last: Reading::now(),
            look_at: timer_now() + LOOK,
        })))
    }

    /// Those that somebody else tells of.
    #[must_use]
    pub const fn told_by(steps: watch::Receiver<u64>) -> Self {
        Self(Source::Told(steps))
    }

    /// Those of a clock that has none.
    #[must_use]
    pub const fn none() -> Self {
        Self(Source::None)
    }

    /// Waits for the next one. Nothing is lost when the wait is given up.
    pub async fn next(&mut self) {
        match &mut self.0 {
            Source::System(system) => system.next().await,
            Source::Told(steps) => {
                if steps.changed().await.is_err() {
                    self.0 = Source::None;
                    std::future::pending().await
                }
            }
            Source::None => std::future::pending().await,
        }
    }
}

impl System {
    async fn next(&mut self) {
        loop {
            let told = async {
                match &self.timer {
                    Some(timer) => was_set(timer).await.and_then(|()| arm(timer.get_ref())),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // A timer that does not work is of no use the next time either.
                told = told => if told.is_err() {
                    self.timer = None;
                },
                () = tokio::time::sleep_until(self.look_at) => {}
            }
            let now = Reading::now();
            let jumped = self.last.jumped_since(&now);
            (self.last, self.look_at) = (now, timer_now() + LOOK);
            if jumped {
                return;
            }
        }
    }
}

fn cancelled_when_set() -> io::Result<AsyncFd<OwnedFd>> {
    let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    arm(&timer)?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe; an owned descriptor lives as long as its registration"
    )]
    AsyncFd::with_interest(timer, Interest::READABLE)
}

fn arm(timer: &OwnedFd) -> io::Result<()> {
    let nothing = Timespec { tv_sec: 0, tv_nsec: 0 };
    let never = Itimerspec { it_interval: nothing, it_value: Timespec { tv_sec: NEVER, ..nothing } };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &never)?;
    Ok(())
}

/// The read fails with `ECANCELED` when the clock was set.
async fn was_set(timer: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let read = |fd: &OwnedFd| match rustix::io::read(fd, &mut [0_u8; 8]) {
        Ok(_) | Err(rustix::io::Errno::CANCELED) => Ok(()),
        Err(error) => Err(io::Error::from(error)),
    };
    timer.async_io(Interest::READABLE, read).await
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_test_tells_of_each_jump() {
        let (jump, told) = watch::channel(0);
        let mut steps = Steps::told_by(told);
        assert!(steps.next().now_or_never().is_none());
        jump.send_replace(1);
        assert!(steps.next().now_or_never().is_some());
        assert!(steps.next().now_or_never().is_none());
        drop(jump);
        assert!(steps.next().now_or_never().is_none());
    }

    /// The kernel has the timer, and a clock that nobody sets is silent.
    #[tokio::test]
    async fn the_system_tells_of_no_jump_while_there_is_none() {
        let timer = cancelled_when_set().unwrap();
        assert!(was_set(&timer).now_or_never().is_none());
        assert!(Steps::of_system().next().now_or_never().is_none());
    }
}
