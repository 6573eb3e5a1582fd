//! Tasks that a program cannot do without.
//!
//! Owns what happens when one of them ends before the program does, by a panic or by a mistake: it is said in one line, counted,
//! and the program is told, so that it ends with an error and whatever supervises it starts it again. A program that goes on
//! without one of its parts looks well and is not. It must never be used for what may end by itself.

use std::{any::Any, fmt, panic::AssertUnwindSafe};

use futures_util::FutureExt as _;
use svidecar_code::Code;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Starts tasks, and tells of the first that is lost. Cheap to clone: clones tell of the same tasks.
#[derive(Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
    lost: watch::Sender<Option<Lost>>,
}

/// That a task ended before the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// What it did.
    pub task: &'static str,
    /// What it panicked with; none when it just ended.
    pub panic: Option<String>,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the task `{}` ", self.task)?;
        match &self.panic {
            Some(panic) => write!(f, "panicked ({panic})")?,
            None => write!(f, "ended by itself")?,
        }
        write!(f, ", and the program cannot do without it; start it again, and report this")
    }
}

impl std::error::Error for Lost {}

impl Lost {
    /// Stable, for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> Code {
        Code::TaskLost
    }
}

impl Tasks {
    /// Tasks that `tracker` waits for; once `shutdown` is cancelled, they may end.
    #[must_use]
    pub fn new(tracker: TaskTracker, shutdown: CancellationToken) -> Self {
        Self { tracker, shutdown, lost: watch::Sender::new(None) }
    }

    /// Starts a task that has to run until the shutdown. `name` says what it does.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.watch(name, false, task);
    }

    /// Starts a task that may end once it has done its work, but must not panic on the way.
    pub fn spawn_until_done(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.watch(name, true, task);
    }

    fn watch(&self, name: &'static str, may_end: bool, task: impl Future<Output = ()> + Send + 'static) {
        let this = self.clone();
        // What it leaves half done, nobody sees: the program ends.
        let task = AssertUnwindSafe(task).catch_unwind();
        self.tracker.spawn(async move {
            let panic = task.await.err().map(|payload| text_of(&*payload));
            if panic.is_some() || !(may_end || this.shutdown.is_cancelled()) {
                this.lose(Lost { task: name, panic });
            }
        });
    }

    fn lose(&self, lost: Lost) {
        tracing::error!(task = lost.task, code = lost.code().name(), "{lost}");
        metrics::counter!("svidecar_tasks_lost_total", "task" => lost.task).increment(1);
        self.lost.send_modify(|first| {
            first.get_or_insert(lost);
        });
    }

    /// Resolves when a task was lost, and never otherwise.
    pub async fn lost(&self) -> Lost {
        let mut lost = self.lost.subscribe();
        let first = lost.wait_for(Option::is_some).await.map(|lost| lost.clone());
        match first.ok().flatten() {
            Some(lost) => lost,
            // The sender is ours: it is there for as long as we are.
            None => std::future::pending().await,
        }
    }
}

/// What a panic says.
fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a word")
        .to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;

    fn tasks() -> Tasks {
        Tasks::new(TaskTracker::new(), CancellationToken::new())
    }

    #[tokio::test]
    async fn a_panic_is_told_and_the_others_go_on() {
        let tasks = tasks();
        let (says, hears) = tokio::sync::oneshot::channel();
        let shutdown = tasks.shutdown.clone();
        tasks.spawn("steady", async move {
            shutdown.cancelled().await;
            says.send(()).ok();
        });
        let room = "accept";
        tasks.spawn("clumsy", async move { panic!("no {room}") });
        let lost = tasks.lost().await;
        assert_eq!(lost, Lost { task: "clumsy", panic: Some("no accept".to_owned()) });
        assert!(lost.to_string().starts_with("the task `clumsy` panicked (no accept), "));
        // Whoever asks later is told the same.
        assert_eq!(tasks.lost().await, lost);
        tasks.shutdown.cancel();
        assert!(hears.await.is_ok());
    }

    #[tokio::test]
    async fn one_that_just_ends_is_lost_too_unless_all_ends() {
        let tasks = tasks();
        tasks.spawn("quitter", std::future::ready(()));
        assert_eq!(tasks.lost().await, Lost { task: "quitter", panic: None });

        let tasks = self::tasks();
        tasks.spawn_until_done("worker", std::future::ready(()));
        let shutdown = tasks.shutdown.clone();
        tasks.spawn("obedient", async move { shutdown.cancelled().await });
        tasks.shutdown.cancel();
        tasks.tracker.close();
        tasks.tracker.wait().await;
        assert!(tasks.lost().now_or_never().is_none());
    }
}
