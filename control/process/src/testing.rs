//! What tests put in the place of the real: streams of a console, of which one can be read and one has lost its reader, a pipe
//! that nobody reads, the hands of a clock, and a disk that is soon full.

use std::{
    cell::RefCell,
    fs::{self, File},
    io::{self, BufWriter, PipeReader, PipeWriter, Write},
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tokio::sync::watch;

use crate::{
    clock::{Clock, Reading},
    console::Console,
};

/// A pipe that is full: whoever writes into it waits until somebody reads.
///
/// # Errors
/// When the system gives none.
pub fn full_pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, mut writer) = io::pipe()?;
    let flags = fcntl_getfl(&writer)?;
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK)?;
    // Pages first, then the rest of the last one.
    for lines in [[b'\n'; 4096].as_slice(), b"\n"] {
        while writer.write(lines).is_ok() {}
    }
    fcntl_setfl(&writer, flags)?;
    Ok((reader, writer))
}

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

/// The hands of a clock that a test moves, each by itself.
pub struct Hands {
    /// Where they stand, if they do not go on with the machine's.
    from: Option<Reading>,
    moved: Arc<Mutex<Moved>>,
    jumps: watch::Sender<u64>,
}

/// By how much, in nanoseconds.
#[derive(Clone, Copy, Default)]
struct Moved {
    wall: i128,
    awake: i128,
    up: i128,
}

impl Hands {
    /// At the machine's time of now, where they stay until they are moved.
    #[must_use]
    pub fn still() -> Self {
        Self { from: Some(Reading::now()), ..Self::running() }
    }

    /// At the machine's time; they go on with it.
    #[must_use]
    pub fn running() -> Self {
        Self { from: None, moved: Arc::default(), jumps: watch::Sender::new(0) }
    }

    /// A clock with these hands.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let (from, moved) = (self.from, Arc::clone(&self.moved));
        Clock::of_readings(move || read(from, &moved), self.jumps.subscribe())
    }

    /// What they show.
    #[must_use]
    pub fn read(&self) -> Reading {
        read(self.from, &self.moved)
    }

    fn turn(&self, turn: impl FnOnce(&mut Moved)) {
        turn(&mut self.moved.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn jump(&self, turn: impl FnOnce(&mut Moved)) {
        self.turn(turn);
        self.jumps.send_modify(|jumps| *jumps += 1);
    }

    /// Time passes.
    pub fn pass(&self, time: Duration) {
        let by = nanos(time);
        self.turn(|moved| {
            moved.wall += by;
            moved.awake += by;
            moved.up += by;
        });
    }

    /// The machine is suspended, and wakes up.
    pub fn sleep(&self, time: Duration) {
        let by = nanos(time);
        self.jump(|moved| {
            moved.wall += by;
            moved.up += by;
        });
    }

    /// Somebody sets the clock by so many seconds.
    pub fn set(&self, seconds: i64) {
        self.jump(|moved| moved.wall += i128::from(seconds) * 1_000_000_000);
    }

    /// The clock is off by so many seconds, and nobody tells of it.
    pub fn slip(&self, seconds: i64) {
        self.turn(|moved| moved.wall += i128::from(seconds) * 1_000_000_000);
    }

    /// Somebody sets the clock to that time.
    pub fn set_to(&self, wall: SystemTime) {
        let by = difference(self.read().wall, wall);
        self.jump(|moved| moved.wall += by);
    }

    /// The machine is booted, with that time of day.
    pub fn boot(&self, wall: SystemTime) {
        let now = self.read();
        self.set_to(wall);
        self.turn(|moved| {
            moved.awake -= nanos(now.awake);
            moved.up -= nanos(now.up);
        });
    }
}

fn read(from: Option<Reading>, moved: &Mutex<Moved>) -> Reading {
    let (from, moved) =
        (from.unwrap_or_else(Reading::now), *moved.lock().unwrap_or_else(PoisonError::into_inner));
    let shifted =
        |of: Duration, by: i128| Duration::from_nanos(u64::try_from(nanos(of) + by).unwrap_or_default());
    let wall = from.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Reading {
        wall: SystemTime::UNIX_EPOCH + shifted(wall, moved.wall),
        awake: shifted(from.awake, moved.awake),
        up: shifted(from.up, moved.up),
    }
}

fn nanos(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

fn difference(from: SystemTime, to: SystemTime) -> i128 {
    to.duration_since(from).map_or_else(|error| -nanos(error.duration()), nanos)
}

/// A small file system in memory, mounted at a directory of its own; unmounted when it is dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it at `path`, which is made. None where the tests may not mount: then the test is skipped, and says so.
    #[must_use]
    pub fn mount(path: &Path, bytes: u64) -> Option<Self> {
        fs::create_dir_all(path).ok()?;
        let options = format!("size={bytes},mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(path.to_owned()));
        }
        // The test's own output: whoever runs it has to know.
        drop(writeln!(io::stderr(), "SKIPPED: mounting a small disk needs root"));
        None
    }

    /// Fills it to the last byte.
    ///
    /// # Errors
    /// When the file that fills it cannot be made.
    pub fn fill(&self) -> io::Result<()> {
        let mut filler = File::create(self.filler())?;
        for size in [4096_usize, 1] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// When the file that fills it cannot be removed.
    pub fn free(&self) -> io::Result<()> {
        fs::remove_file(self.filler())
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is still open keeps it alive until it is closed.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}
