//! The threads that move data. Each has its own single-threaded runtime, its own listening sockets and its own
//! connections to upstreams; a request never changes threads.

use std::{
    io,
    pin::pin,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError, mpsc as blocking},
    thread::{self, JoinHandle},
    time::Duration,
};

use svidecar_config::proxy::Workers as WorkerCount;
use tokio::{
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    error::ProxyError,
    runtime::{
        accept::{self, Listener, Service},
        drain::Phase,
        shared::Shared,
        worker::Worker,
    },
};

/// Commands wait only while a worker is busy with the ones before.
const COMMANDS: usize = 64;

/// More threads than this help nobody who has not said so.
const MOST_AUTOMATIC: usize = 4;

/// Makes a worker's service, on the worker's own thread.
pub type MakeService = fn(&Rc<Worker>) -> Rc<dyn Service>;

/// What a worker can be told.
enum Command {
    /// Take connections from this socket.
    Listen(Listener),
    /// Show that you move.
    Pulse(oneshot::Sender<()>),
}

/// A running worker thread.
struct Thread {
    commands: mpsc::Sender<Command>,
    handle: JoinHandle<()>,
}

/// All worker threads.
pub struct Workers {
    threads: Mutex<Vec<Thread>>,
    count: usize,
    stop: CancellationToken,
    /// Cancelled when a thread ends without having been told to.
    failed: CancellationToken,
}

impl Workers {
    /// Starts `count` threads that do nothing yet. Each makes a service for the connections that it will accept.
    ///
    /// # Errors
    /// [`ProxyError::System`] when the system gives no thread or no epoll.
    pub fn start(count: usize, shared: &Arc<Shared>, service: MakeService) -> Result<Self, ProxyError> {
        let stop = CancellationToken::new();
        let failed = CancellationToken::new();
        let mut threads = Vec::with_capacity(count);
        for index in 0..count {
            let (commands, receiver) = mpsc::channel(COMMANDS);
            let (shared, stop, alarm) = (Arc::clone(shared), stop.clone(), failed.clone().drop_guard());
            // The runtime cannot leave its thread, so the thread makes it and says whether it could.
            let (started, has_started) = blocking::sync_channel(1);
            let handle = thread::Builder::new()
                .name(format!("svidecar-{index}"))
                .spawn(move || {
                    match runtime() {
                        Ok(runtime) => {
                            let _ = started.send(Ok(()));
                            let worker = Worker::new(shared);
                            let service = service(&worker);
                            runtime.block_on(run(worker, service, receiver, stop));
                            // Tasks that outlive the deadline are dropped with the runtime; lookups are not waited for.
                            runtime.shutdown_background();
                        }
                        Err(error) => _ = started.send(Err(error)),
                    }
                    alarm.disarm();
                })
                .map_err(|source| ProxyError::System { what: "start a worker thread", source })?;
            threads.push(Thread { commands, handle });
            let started = has_started.recv().map_err(|_| ProxyError::WorkerEnded { index })?;
            started.map_err(|source| ProxyError::System { what: "start a worker's runtime", source })?;
        }
        Ok(Self { threads: Mutex::new(threads), count, stop, failed })
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Hands each worker its socket of a listener.
    ///
    /// # Errors
    /// [`ProxyError::WorkerEnded`] when a worker is gone.
    pub async fn listen(&self, listeners: impl IntoIterator<Item = Listener>) -> Result<(), ProxyError> {
        for (index, (commands, listener)) in self.commands().into_iter().zip(listeners).enumerate() {
            let sent = commands.send(Command::Listen(listener)).await;
            sent.map_err(|_| ProxyError::WorkerEnded { index })?;
        }
        Ok(())
    }

    /// Asks every worker for a sign of life, and names those that gave none within `deadline`.
    pub async fn silent(&self, deadline: Duration) -> Vec<usize> {
        let asked = self.commands().into_iter().enumerate().map(|(index, commands)| async move {
            let (pulse, felt) = oneshot::channel();
            let alive = async { commands.send(Command::Pulse(pulse)).await.is_ok() && felt.await.is_ok() };
            let alive = tokio::time::timeout(deadline, alive).await.unwrap_or(false);
            (!alive).then_some(index)
        });
        futures_util::future::join_all(asked).await.into_iter().flatten().collect()
    }

    fn commands(&self) -> Vec<mpsc::Sender<Command>> {
        self.lock().iter().map(|thread| thread.commands.clone()).collect()
    }

    /// Waits for a worker to fail, which should never happen.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Ends all threads and waits for them. What is still open is cut: drain first.
    pub fn stop(&self) {
        self.stop.cancel();
        let threads = std::mem::take(&mut *self.lock());
        for thread in threads {
            drop(thread.commands);
            if thread.handle.join().is_err() {
                error!("A worker ended by a panic; this is a defect of svidecar, please report it");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Thread>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the tasks of a worker have to end once every connection was told to.
const LAST_WORDS: Duration = Duration::from_millis(200);

fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .thread_name("svidecar-dns")
        .max_blocking_threads(2)
        .build_local(LocalOptions::default())
}

/// One worker's life: takes listeners until told to stop.
async fn run(
    worker: Rc<Worker>,
    service: Rc<dyn Service>,
    mut commands: mpsc::Receiver<Command>,
    stop: CancellationToken,
) {
    // Those without which the thread would only look alive: when one panics, the thread does.
    let mut vital = JoinSet::new();
    // Not among the tracked tasks: it never ends by itself.
    vital.spawn_local(Rc::clone(&worker).follow());
    let mut flushing = pin!(worker.recorder.keep_flushed());
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            never = &mut flushing => match never {},
            command = commands.recv() => match command {
                Some(Command::Listen(listener)) => {
                    let accepting = accept::run(Rc::clone(&worker), Rc::clone(&service), listener);
                    vital.spawn_local(worker.tracker.track_future(accepting));
                }
                // Nobody may be waiting any more.
                Some(Command::Pulse(pulse)) => _ = pulse.send(()),
                None => break,
            },
            // Accepting ends by itself when its listener is gone.
            ended = vital.join_next() => if let Some(Err(error)) = ended && let Ok(panic) = error.try_into_panic() {
                std::panic::resume_unwind(panic);
            },
        }
    }
    worker.tracker.close();
    if worker.shared.drain.phase() < Phase::Force {
        worker.shared.drain.force();
    }
    // What is left after the cut only sleeps, as the pools' reapers do: it goes with the runtime.
    let _ = tokio::time::timeout(LAST_WORDS, worker.tracker.wait()).await;
}

/// How many threads to start.
#[must_use]
pub fn count(setting: WorkerCount) -> usize {
    match setting {
        WorkerCount::Count(count) => count.get(),
        WorkerCount::Auto => cpu_quota().clamp(1, MOST_AUTOMATIC),
    }
}

/// CPUs that we may use: the smaller of the affinity mask and the cgroup's quota, which the standard library reads.
fn cpu_quota() -> usize {
    thread::available_parallelism().map_or_else(|_: io::Error| 1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(commands: impl IntoIterator<Item = mpsc::Sender<Command>>) -> Workers {
        let threads: Vec<_> =
            commands.into_iter().map(|commands| Thread { commands, handle: thread::spawn(|| {}) }).collect();
        Workers {
            count: threads.len(),
            threads: Mutex::new(threads),
            stop: CancellationToken::new(),
            failed: CancellationToken::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_does_not_move_is_named() {
        let (moving, mut commands) = mpsc::channel(1);
        let (stuck, _unread) = mpsc::channel(1);
        let (ended, gone) = mpsc::channel(1);
        drop(gone);
        let workers = workers([moving, stuck, ended]);
        let moves = async {
            while let Some(Command::Pulse(pulse)) = commands.recv().await {
                let _ = pulse.send(());
            }
        };
        tokio::select! {
            silent = workers.silent(Duration::from_secs(1)) => assert_eq!(silent, [1, 2]),
            () = moves => panic!("the channel was closed"),
        }
    }
}
