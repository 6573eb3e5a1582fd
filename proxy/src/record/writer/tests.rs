#![allow(clippy::unwrap_used)]

use std::{
    io::Write,
    path::Path,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use svidecar_process::testing::SmallDisk;

use super::*;

const LONG: Duration = Duration::from_secs(30);

fn open(path: &Path) -> Writer {
    Writer::start(&AccessLogPath::File(path.to_owned()), Counter::noop()).unwrap()
}

fn batch(writer: &Writer, lines: &[&str]) -> Batch {
    let mut batch = Batch::default();
    for line in lines {
        batch.add(writer, |out| out.extend_from_slice(line.as_bytes()));
    }
    batch
}

#[test]
fn closing_writes_what_waits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let writer = open(&path);
    for at in 0..100 {
        writer.write(batch(&writer, &[&format!("{at}\n"), "more\n"]));
    }
    writer.close(LONG);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 200);
    assert!(text.ends_with("99\nmore\n"));
}

#[test]
fn a_rotated_file_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let (path, old) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
    let writer = open(&path);
    writer.write(batch(&writer, &["one\n"]));
    std::fs::rename(&path, &old).unwrap();
    writer.reopen();
    writer.write(batch(&writer, &["two\n"]));
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
    let dropped = Arc::<AtomicU64>::default();
    let sink = Sink::Test(Box::new(Stuck { asked, held }));
    let writer = Writer::start_with(sink, Counter::from_arc(Arc::clone(&dropped))).unwrap();
    writer.write(batch(&writer, &["line\n"]));
    is_asked.recv().unwrap();
    assert!(!writer.is_crowded());
    for _ in 0..QUEUE_BATCHES + 7 {
        writer.write(batch(&writer, &["line\n", "line\n"]));
    }
    assert_eq!(dropped.load(Ordering::Relaxed), 14);
    assert!(writer.is_crowded());
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
    let dropped = Arc::<AtomicU64>::default();
    let writer =
        Writer::start_with(Sink::Test(Box::new(Full)), Counter::from_arc(Arc::clone(&dropped))).unwrap();
    writer.write(batch(&writer, &["line\n", "line\n", "line\n"]));
    writer.close(LONG);
    assert_eq!(dropped.load(Ordering::Relaxed), 3);
}

#[test]
fn memory_is_kept_while_batches_are_full_and_no_longer() {
    let spare = Spare::default();
    let full = vec![b'x'; BATCH_BYTES];
    let address = full.as_ptr();
    spare.give(full);
    let again = spare.take();
    assert_eq!((again.as_ptr(), again.len()), (address, 0));
    spare.give(vec![b'x'; BATCH_BYTES]);
    spare.give(b"few\n".to_vec());
    assert!(spare.0.lock().unwrap().is_empty());
}

/// A full disk costs the lines that it has no room for, and no line after them.
#[test]
fn a_full_disk_loses_lines_until_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("log");
    let Some(disk) = SmallDisk::mount(&home, 64 << 10) else { return };
    let (path, dropped) = (home.join("access.log"), Arc::new(AtomicU64::new(0)));
    let counter = Counter::from_arc(Arc::clone(&dropped));
    let writer = Writer::start(&AccessLogPath::File(path.clone()), counter).unwrap();
    let lost = || dropped.load(Ordering::Relaxed);
    writer.write(batch(&writer, &["before\n"]));
    while std::fs::read(&path).unwrap().is_empty() {
        thread::yield_now();
    }
    let line = format!("{}\n", "x".repeat(1000));
    // The last page of the file has room; what comes after that has none.
    disk.fill().unwrap();
    while lost() == 0 {
        writer.write(batch(&writer, &[&line]));
        thread::yield_now();
    }
    disk.free().unwrap();
    let before = lost();
    writer.write(batch(&writer, &["after\n"]));
    writer.close(LONG);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("before\n") && text.ends_with("\nafter\n"), "{text}");
    assert!(lost() >= before);
}
