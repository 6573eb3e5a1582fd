//! Streams of a console, for tests: one that can be read, and one whose reader went away.

use std::{
    cell::RefCell,
    io::{self, BufWriter, Write},
    rc::Rc,
};

use crate::console::Console;

/// A console, and what it will have printed.
#[must_use]
pub fn captured() -> (Console, Captured) {
    let seen = Captured::default();
    (Console::new(seen.out.clone(), seen.err.clone()), seen)
}

/// What a console has printed.
#[derive(Default)]
pub struct Captured {
    out: Stream,
    err: Stream,
}

impl Captured {
    /// The results.
    #[must_use]
    pub fn out(&self) -> String {
        self.out.text()
    }

    /// What was said beside them.
    #[must_use]
    pub fn err(&self) -> String {
        self.err.text()
    }
}

#[derive(Clone, Default)]
struct Stream(Rc<RefCell<Vec<u8>>>);

impl Stream {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.borrow()).into_owned()
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A console whose reader went away, buffered as that of a process; only what is said on stderr is seen.
#[must_use]
pub fn closed() -> (Console, Captured) {
    let seen = Captured::default();
    (Console::new(BufWriter::new(ClosedPipe), seen.err.clone()), seen)
}

struct ClosedPipe;

impl Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
