//! The thread that writes the access log.
//!
//! Owns the file. Lines come through a bounded queue and leave in batches; when the queue is full a line is
//! dropped and counted, because a slow disk must never slow a request. The thread sleeps while there is
//! nothing to write.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use svidecar_config::proxy::AccessLogPath;

/// Most lines that wait to be written.
const QUEUE_LINES: usize = 4096;
/// A batch is written when it has this many bytes, or when no more lines wait.
const BATCH_BYTES: usize = 64 * 1024;

enum Message {
    Line(Vec<u8>),
    Reopen,
    /// Write everything and answer.
    Close(SyncSender<()>),
}

/// A handle to the writing thread.
pub(super) struct Writer {
    queue: SyncSender<Message>,
    dropped: Counter,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Writer {
    /// Opens the destination and starts the thread.
    pub(super) fn start(path: &AccessLogPath, dropped: Counter) -> io::Result<Self> {
        Self::start_with(Sink::open(path)?, dropped)
    }

    fn start_with(sink: Sink, dropped: Counter) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE_LINES);
        let lost = dropped.clone();
        let thread = thread::Builder::new()
            .name("access-log".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || write_all(&messages, sink, &lost))?;
        Ok(Self { queue, dropped, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a line, or drops it when too many wait.
    pub(super) fn write(&self, line: Vec<u8>) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.dropped.inc();
        }
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

/// Where the lines go.
enum Sink {
    Stdout,
    Stderr,
    File {
        path: PathBuf,
        file: File,
    },
    #[cfg(test)]
    Test(Box<dyn Write + Send>),
}

impl Sink {
    fn open(path: &AccessLogPath) -> io::Result<Self> {
        match path {
            AccessLogPath::Stdout => Ok(Self::Stdout),
            AccessLogPath::Stderr => Ok(Self::Stderr),
            AccessLogPath::File(path) => Ok(Self::File { path: path.clone(), file: open_file(path)? }),
        }
    }

    /// Keeps the old file when the new one cannot be opened.
    fn reopen(&mut self) {
        if let Self::File { path, file } = self {
            match open_file(path) {
                Ok(fresh) => *file = fresh,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "The access log cannot be opened again; the old file is kept");
                }
            }
        }
    }

    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(batch)?;
                stdout.flush()
            }
            Self::Stderr => io::stderr().lock().write_all(batch),
            Self::File { file, .. } => file.write_all(batch),
            #[cfg(test)]
            Self::Test(sink) => sink.write_all(batch),
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn write_all(messages: &Receiver<Message>, mut sink: Sink, lost: &Counter) {
    let mut batch = Vec::new();
    let mut healthy = true;
    while let Ok(first) = messages.recv() {
        let mut lines = 0;
        let mut next = Some(first);
        let mut after = None;
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    batch.extend_from_slice(&line);
                    lines += 1;
                }
                Message::Reopen | Message::Close(_) => {
                    after = Some(message);
                    break;
                }
            }
            next = if batch.len() < BATCH_BYTES { messages.try_recv().ok() } else { None };
        }
        if let Err(error) = sink.write(&batch) {
            lost.inc_by(lines);
            // Said once, not for every line of a full disk.
            if std::mem::replace(&mut healthy, false) {
                tracing::warn!(%error, "The access log cannot be written; lines are lost");
            }
        } else {
            healthy = true;
        }
        // An idle proxy owns no buffers.
        batch = Vec::new();
        match after {
            Some(Message::Reopen) => sink.reopen(),
            Some(Message::Close(done)) => {
                let _ = done.send(());
                return;
            }
            Some(Message::Line(_)) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn open(path: &Path, dropped: &Counter) -> Writer {
        Writer::start(&AccessLogPath::File(path.to_owned()), dropped.clone()).unwrap()
    }

    #[test]
    fn closing_writes_what_waits() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let writer = open(&path, &Counter::default());
        for at in 0..1000 {
            writer.write(format!("{at}\n").into_bytes());
        }
        writer.close(LONG);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1000);
        assert!(text.ends_with("999\n"));
    }

    #[test]
    fn a_rotated_file_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let (path, old) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
        let writer = open(&path, &Counter::default());
        writer.write(b"one\n".to_vec());
        std::fs::rename(&path, &old).unwrap();
        writer.reopen();
        writer.write(b"two\n".to_vec());
        writer.close(LONG);
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
    }

    /// A reader that does not read: says when it is asked, then holds the writer until the test lets go.
    struct Stuck {
        asked: SyncSender<()>,
        held: mpsc::Receiver<()>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.asked.send(());
            let _ = self.held.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_nothing_else() {
        let ((asked, is_asked), (release, held)) = (sync_channel(16), sync_channel(16));
        let dropped = Counter::default();
        let sink = Sink::Test(Box::new(Stuck { asked, held }));
        let writer = Writer::start_with(sink, dropped.clone()).unwrap();
        writer.write(b"line\n".to_vec());
        is_asked.recv().unwrap();
        for _ in 0..QUEUE_LINES + 7 {
            writer.write(b"line\n".to_vec());
        }
        assert_eq!(dropped.get(), 7);
        writer.close(LONG);
        drop(release);
    }

    /// A full disk.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_counted() {
        let dropped = Counter::default();
        let writer = Writer::start_with(Sink::Test(Box::new(Full)), dropped.clone()).unwrap();
        writer.write(b"line\n".to_vec());
        writer.close(LONG);
        assert_eq!(dropped.get(), 1);
    }
}
