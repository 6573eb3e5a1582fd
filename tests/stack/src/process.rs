//! One child process and all it says. Owns its standard output and error, line by line, and its end: a process
//! that is dropped is killed.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::PATIENCE;

/// How many lines of a process are kept; older ones stay only in its log file.
const KEPT_LINES: usize = 200_000;

/// What to start, and how.
#[derive(Clone, Debug)]
pub struct Launch {
    program: PathBuf,
    args: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    wrapper: Option<PathBuf>,
    user: Option<u32>,
    dir: Option<PathBuf>,
    patience: Duration,
}

impl Launch {
    /// A program without arguments, as the caller's user.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            environment: Vec::new(),
            wrapper: None,
            user: None,
            dir: None,
            patience: PATIENCE,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// One variable on top of the caller's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The working directory.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Run it under another user and the group of the same number; only root can.
    #[must_use]
    pub const fn user(mut self, uid: u32) -> Self {
        self.user = Some(uid);
        self
    }

    /// Start it through a program whose command `guard` is [`crate::guard`]. That ties its life to ours, in a process group of its
    /// own, so that a Ctrl-C at the terminal reaches us alone.
    #[must_use]
    pub fn through(mut self, wrapper: impl Into<PathBuf>) -> Self {
        self.wrapper = Some(wrapper.into());
        self
    }

    /// How long [`Self::output`] and [`Self::text`] wait for its end, in place of [`PATIENCE`].
    #[must_use]
    pub const fn patience(mut self, limit: Duration) -> Self {
        self.patience = limit;
        self
    }

    /// The command, for a caller that cannot await.
    #[must_use]
    pub fn blocking(&self) -> std::process::Command {
        self.command().into_std()
    }

    fn command(&self) -> Command {
        let mut command = match &self.wrapper {
            Some(wrapper) => {
                let mut command = Command::new(wrapper);
                command.arg("guard").arg("--parent").arg(std::process::id().to_string());
                command.arg("--").arg(&self.program).process_group(0);
                command
            }
            None => Command::new(&self.program),
        };
        command.args(&self.args).stdin(Stdio::null()).kill_on_drop(true);
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        if let Some(uid) = self.user {
            command.uid(uid).gid(uid);
        }
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    /// Starts it. `name` is for messages only.
    ///
    /// # Errors
    /// When the program cannot be executed.
    pub fn start(&self, name: &str) -> Result<Process> {
        let mut child = self
            .command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", self.program.display()))?;
        let log = Log { name: name.into(), lines: Arc::new(watch::Sender::new(Vec::new())) };
        let readers = [
            child.stdout.take().map(|stream| tokio::spawn(follow(stream, log.clone()))),
            child.stderr.take().map(|stream| tokio::spawn(follow(stream, log.clone()))),
        ];
        Ok(Process { child, log, readers })
    }

    /// Runs it to its end and returns what it said.
    ///
    /// # Errors
    /// When it cannot be executed or does not end in time.
    pub async fn output(&self) -> Result<std::process::Output> {
        let output = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).output();
        tokio::time::timeout(self.patience, output)
            .await
            .map_err(|_| anyhow!("{} did not end within {:?}", self.program.display(), self.patience))?
            .with_context(|| format!("cannot run {}", self.program.display()))
    }

    /// Runs it to its end and returns its standard output.
    ///
    /// # Errors
    /// When it fails; the error has what it said.
    pub async fn text(&self) -> Result<String> {
        let output = self.output().await?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("{} {:?}: {}\n{stdout}{stderr}", self.program.display(), self.args, output.status);
        }
        Ok(stdout)
    }
}

/// Adds each line of a stream to the log until the stream ends.
async fn follow(stream: impl AsyncRead + Unpin, log: Log) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        log.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
}

/// All the lines that a process has said so far, and a way to wait for one.
#[derive(Clone)]
pub struct Log {
    name: Arc<str>,
    lines: Arc<watch::Sender<Vec<String>>>,
}

impl Log {
    fn push(&self, line: String) {
        self.lines.send_modify(|lines| {
            if lines.len() < KEPT_LINES {
                lines.push(line);
            }
        });
    }

    /// How many lines there are: the place from which to wait for what happens next.
    #[must_use]
    pub fn position(&self) -> usize {
        self.lines.borrow().len()
    }

    /// Everything said so far.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.borrow().join("\n")
    }

    /// The lines that hold a text.
    #[must_use]
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        self.lines.borrow().iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// Receives every change of the lines, for a caller who follows them.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Vec<String>> {
        self.lines.subscribe()
    }

    /// The first line, from the beginning, that holds all of `texts`.
    ///
    /// # Errors
    /// When none comes within [`PATIENCE`]; the error has the last lines.
    pub async fn wait_for(&self, texts: &[&str]) -> Result<String> {
        self.wait_from(0, texts).await
    }

    /// The first line at or after `position` that holds all of `texts`.
    ///
    /// # Errors
    /// When none comes within [`PATIENCE`]; the error has the last lines.
    pub async fn wait_from(&self, position: usize, texts: &[&str]) -> Result<String> {
        self.wait_until(position, PATIENCE, |line| texts.iter().all(|text| line.contains(text)))
            .await
            .with_context(|| format!("{} never said {texts:?}", self.name))
    }

    /// The first line at or after `position` that `wanted` accepts.
    ///
    /// # Errors
    /// When none comes within `limit`; the error has the last lines.
    pub async fn wait_until(
        &self,
        mut position: usize,
        limit: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let mut receiver = self.lines.subscribe();
        let search = async {
            loop {
                {
                    let lines = receiver.borrow_and_update();
                    if let Some(line) = lines.iter().skip(position).find(|line| wanted(line)) {
                        return Some(line.clone());
                    }
                    position = lines.len();
                }
                if receiver.changed().await.is_err() {
                    return None;
                }
            }
        };
        match tokio::time::timeout(limit, search).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) | Err(_) => Err(anyhow!("its last lines:\n{}", self.tail(40))),
        }
    }

    /// The last lines, indented, for messages.
    #[must_use]
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lines.borrow();
        let from = lines.len().saturating_sub(count);
        lines.iter().skip(from).map(|line| format!("    {}: {line}\n", self.name)).collect()
    }
}

/// A running child.
pub struct Process {
    child: Child,
    /// What it said.
    pub log: Log,
    readers: [Option<tokio::task::JoinHandle<()>>; 2],
}

impl Process {
    /// The process ID, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Has it ended already?
    #[must_use]
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().with_context(|| format!("{} has ended already", self.log.name))?;
        kill(Pid::from_raw(i32::try_from(pid)?), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.log.name))
    }

    /// Waits for its end, and for the last of what it said.
    ///
    /// # Errors
    /// When it does not end within [`PATIENCE`].
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .map_err(|_| anyhow!("{} did not end:\n{}", self.log.name, self.log.tail(20)))??;
        for reader in self.readers.iter_mut().filter_map(Option::take) {
            // A grandchild may hold the stream open; what the process itself said is read by then.
            let _ = tokio::time::timeout(Duration::from_secs(1), reader).await;
        }
        Ok(status)
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// When it does not end within [`PATIENCE`].
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        if !self.has_ended() {
            self.signal(Signal::SIGTERM)?;
        }
        self.wait().await
    }

    /// Kills it at once.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("cannot kill {}", self.log.name))
    }

    /// Writes all it said into a file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save_log(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.log.text()).with_context(|| format!("cannot write {}", path.display()))
    }
}
