//! One process of the fleet, over all its lives.
//!
//! Owns how it is started, stopped, frozen and found ready. It must never decide when.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use svidecar_process::clock;
use svidecar_stack::{Launch, Log, PATIENCE, Process, http};
use tokio::{sync::Mutex, time};

use crate::{clocks::WallClock, levels::Level, part::Part};

/// Between two looks whether it is ready.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long an answer to such a look may take; one that is frozen gives none.
const ANSWER: Duration = Duration::from_secs(2);

/// What it takes to start one.
pub struct Member {
    /// Which one it is.
    pub part: Part,
    /// Its wall clock, if that can be set.
    pub clock: Option<WallClock>,
    launch: Launch,
    /// Where it says whether it is ready, and by which path.
    ready: Option<(SocketAddr, &'static str)>,
    logs: PathBuf,
    life: Mutex<Life>,
    /// Held during an accident: the next one waits until it is over, however long that takes.
    pub accident: Mutex<()>,
}

struct Life {
    process: Process,
    number: usize,
}

impl Member {
    /// Starts its first life.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(
        part: Part,
        launch: Launch,
        clock: Option<WallClock>,
        ready: Option<(SocketAddr, &'static str)>,
        logs: &Path,
    ) -> Result<Self> {
        let process = launch.start(&part.to_string())?;
        let life = Mutex::new(Life { process, number: 1 });
        Ok(Self { part, clock, launch, ready, logs: logs.to_owned(), life, accident: Mutex::default() })
    }

    /// Sends a signal to it.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn signal(&self, signal: Signal) -> Result<()> {
        self.life.lock().await.process.signal(signal)
    }

    /// Ends this life by `signal`, waits for that, and keeps what it said.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn end(&self, signal: Signal) -> Result<()> {
        let mut life = self.life.lock().await;
        life.process.signal(signal)?;
        life.process.wait().await?;
        life.process.save_log(&self.log_file(life.number))
    }

    /// Begins another life.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub async fn begin(&self) -> Result<()> {
        let mut life = self.life.lock().await;
        life.process = self.launch.start(&self.part.to_string())?;
        life.number += 1;
        Ok(())
    }

    /// What it says in this life.
    pub async fn log(&self) -> Log {
        self.life.lock().await.process.log.clone()
    }

    /// Keeps what it has said in this life.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn save_log(&self) -> Result<()> {
        let life = self.life.lock().await;
        life.process.save_log(&self.log_file(life.number))
    }

    /// Whether it has ended, by whatever.
    pub async fn has_ended(&self) -> bool {
        self.life.lock().await.process.has_ended()
    }

    /// Whether it says now that it is ready; true for one that cannot be asked.
    pub async fn is_ready(&self) -> bool {
        let Some((address, path)) = self.ready else { return true };
        let answer = time::timeout(ANSWER, http::get(address, path, &[])).await;
        answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status.is_success()))
    }

    /// Waits until it is ready, `limit` at the most.
    ///
    /// # Errors
    /// When it is not; with what it says about that.
    pub async fn becomes_ready(&self, limit: Duration) -> Result<()> {
        let until = clock::timer() + limit;
        while !self.is_ready().await {
            if clock::timer() >= until {
                bail!("{} is not ready after {limit:?}: {}", self.part, self.why_not().await);
            }
            time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    async fn why_not(&self) -> String {
        let Some((address, path)) = self.ready else { return String::new() };
        match time::timeout(PATIENCE, http::get(address, path, &[])).await {
            Ok(Ok(answer)) => format!("{} {}", answer.status, answer.text().trim()),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer".to_owned(),
        }
    }

    /// What it takes of the machine.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn level(&self) -> Result<Level> {
        let pid = self.life.lock().await.process.pid().context("it has ended")?;
        Level::of(pid)
    }

    fn log_file(&self, life: usize) -> PathBuf {
        self.logs.join(format!("{}.{life}.log", self.part))
    }
}
