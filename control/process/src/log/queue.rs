//! Lines on their way to somebody who may not read them.
//!
//! Owns the bound, and what is dropped beyond it: what only informs goes first, warnings and errors have the last quarter for
//! themselves. What was dropped is counted, and said once there is room again. It must never keep waiting who writes a line.

use std::{
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Most bytes that wait.
const MOST: usize = 1 << 20;

/// Where the part begins that only warnings and errors get.
const MOST_TO_INFORM: usize = MOST / 4 * 3;

/// Lines that wait. Clones are the same.
#[derive(Clone)]
pub struct Queue(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// The thread is writing some that are not in `lines` any more.
    is_writing: bool,
    dropped: u64,
    /// Of these it was said that they were dropped.
    said: u64,
}

/// One line.
pub struct Line<'q> {
    queue: &'q Queue,
    most: usize,
}

impl Queue {
    /// An empty one, that nobody writes yet.
    pub fn new() -> Self {
        let shared = Shared { state: Mutex::default(), filled: Condvar::new(), written: Condvar::new() };
        Self(Arc::new(shared))
    }

    /// Starts the thread that writes.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn start(&self, to: impl Write + Send + 'static) -> io::Result<()> {
        let queue = self.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || queue.write_all(to)).map(drop)
    }

    /// Waits until everything is written, for at most `deadline`.
    pub fn flush(&self, deadline: Duration) {
        let is_waiting = |state: &mut State| state.is_writing || !state.lines.is_empty();
        drop(self.0.written.wait_timeout_while(self.state(), deadline, is_waiting));
    }

    /// Whether something waits.
    pub fn is_waiting(&self) -> bool {
        let state = self.state();
        state.is_writing || !state.lines.is_empty()
    }

    /// Lines that were dropped.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }

    fn push(&self, line: &[u8], most: usize) {
        let mut state = self.state();
        if state.lines.len() + line.len() > most {
            state.dropped += 1;
            return;
        }
        state.lines.extend_from_slice(line);
        drop(state);
        self.0.filled.notify_one();
    }

    fn write_all(&self, mut to: impl Write) {
        let mut lines = Vec::new();
        loop {
            let is_empty = |state: &mut State| state.lines.is_empty();
            let mut state =
                self.0.filled.wait_while(self.state(), is_empty).unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut state.lines, &mut lines);
            state.is_writing = true;
            drop(state);
            // A reader that is gone is none of our business, and there is nobody else to tell.
            let _ = to.write_all(&lines);
            lines.clear();
            // What a flood needed is not kept.
            lines.shrink_to(MOST / 16);
            let mut state = self.state();
            let lost = state.dropped - state.said;
            state.said = state.dropped;
            drop(state);
            if lost > 0 {
                tracing::warn!(lines = lost, "Nobody read the log for some time; lines of it are lost");
            }
            self.state().is_writing = false;
            self.0.written.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'q> MakeWriter<'q> for Queue {
    type Writer = Line<'q>;

    fn make_writer(&'q self) -> Line<'q> {
        Line { queue: self, most: MOST_TO_INFORM }
    }

    fn make_writer_for(&'q self, meta: &Metadata<'_>) -> Line<'q> {
        Line { queue: self, most: if *meta.level() <= Level::WARN { MOST } else { MOST_TO_INFORM } }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(line, self.most);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Says when it is asked to write, and goes on when it is let.
    struct Reader {
        asked: SyncSender<Vec<u8>>,
        lets: Receiver<()>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.asked.send(bytes.to_owned());
            let _ = self.lets.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn reader() -> (Reader, Receiver<Vec<u8>>, SyncSender<()>) {
        let ((asked, is_asked), (lets, is_let)) = (sync_channel(16), sync_channel(16));
        (Reader { asked, lets: is_let }, is_asked, lets)
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_nobody_waits() {
        let queue = Queue::new();
        let (reader, is_asked, lets) = reader();
        queue.start(reader).unwrap();
        queue.push(b"first\n", MOST);
        assert_eq!(is_asked.recv().unwrap(), b"first\n");
        let long = vec![b'x'; MOST / 4];
        for _ in 0..10 {
            queue.push(&long, MOST_TO_INFORM);
        }
        assert_eq!(queue.dropped(), 7);
        // Warnings still find room.
        queue.push(b"warning\n", MOST);
        assert_eq!(queue.dropped(), 7);
        queue.flush(Duration::from_millis(1));
        assert!(queue.is_waiting());
        drop(lets);
        let rest = is_asked.recv().unwrap();
        assert_eq!(rest.len(), MOST_TO_INFORM + b"warning\n".len());
        queue.flush(LONG);
        assert!(!queue.is_waiting());
    }

    #[test]
    fn what_waits_at_the_end_is_written() {
        let queue = Queue::new();
        let (reader, is_asked, lets) = reader();
        queue.push(b"one\n", MOST);
        queue.push(b"two\n", MOST);
        queue.start(reader).unwrap();
        drop(lets);
        queue.flush(LONG);
        assert_eq!(is_asked.recv().unwrap(), b"one\ntwo\n");
    }
}
