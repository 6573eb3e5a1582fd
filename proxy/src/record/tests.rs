#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use svidecar_config::proxy::AccessLogPath;
use svidecar_process::{clock, throttle::Leave};
use tempfile::TempDir;

use std::time::Duration;

use super::*;

const LONG: Duration = Duration::from_secs(30);

fn telemetry() -> (TempDir, PathBuf, Arc<Telemetry>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let settings =
        AccessLogSettings { format: AccessLogFormat::Json, path: AccessLogPath::File(path.clone()) };
    let telemetry = Telemetry::start(&settings).unwrap();
    (directory, path, telemetry)
}

fn record(listener: &str) -> Record<'_> {
    Record {
        direction: Direction::Outbound,
        listener,
        service: "orders",
        started: clock::monotonic(),
        duration: Duration::from_millis(1),
        client: None,
        peer: None,
        http: None,
        received: 1,
        sent: 2,
        upstream: None,
        decided: None,
        code: None,
        detail: None,
        leave: Some(Leave::default()),
        preamble: &[],
    }
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(ToOwned::to_owned).collect()
}

/// What the writing thread was given has been written once it has ended.
fn lines_after(telemetry: &Telemetry, path: &Path) -> Vec<String> {
    telemetry.writer.as_ref().unwrap().close(LONG);
    lines(path)
}

#[test]
fn a_line_waits_for_others_until_the_batch_is_full() {
    let (_directory, path, telemetry) = telemetry();
    let recorder = telemetry.recorder();
    let gathered = || lock(&recorder.own.state).batch.is_empty();
    recorder.record(&record("web"));
    assert!(!gathered());
    let mut count = 1;
    while !gathered() {
        recorder.record(&record("web"));
        count += 1;
    }
    assert!(count > 100, "{count} lines fill a batch");
    assert_eq!(lines_after(&telemetry, &path).len(), count);
}

#[tokio::test(start_paused = true)]
async fn what_is_gathered_leaves_after_a_tenth_of_a_second() {
    let (_directory, path, telemetry) = telemetry();
    let recorder = telemetry.recorder();
    let started = clock::timer();
    for _ in 0..2 {
        recorder.record(&record("web"));
        let flushed = poll_fn(|_| match lock(&recorder.own.state).batch.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        tokio::select! {
            biased;
            never = recorder.keep_flushed() => match never {},
            () = flushed => {}
        }
    }
    assert!(clock::timer() - started >= 2 * FLUSH_AFTER && clock::timer() - started < 3 * FLUSH_AFTER);
    assert_eq!(lines_after(&telemetry, &path).len(), 2);
}

#[test]
fn closing_takes_what_every_worker_has_gathered() {
    let (_directory, path, telemetry) = telemetry();
    let (one, two) = (telemetry.recorder(), telemetry.recorder());
    one.record(&record("one"));
    two.record(&record("two"));
    two.record(&record("two"));
    telemetry.close(LONG);
    assert_eq!(lines(&path).len(), 3);
    assert!(telemetry.render().contains("svidecar_access_log_dropped_lines_total 0"));
    // Whoever records later loses the line, and nothing else.
    one.record(&record("one"));
    drop(one);
    assert!(telemetry.render().contains("svidecar_access_log_dropped_lines_total 1"));
}

#[test]
fn a_worker_that_ends_leaves_its_lines() {
    let (_directory, path, telemetry) = telemetry();
    let recorder = telemetry.recorder();
    recorder.record(&record("web"));
    drop(recorder);
    assert_eq!(lines_after(&telemetry, &path).len(), 1);
}

#[test]
fn what_came_before_the_rotation_is_in_the_old_file() {
    let (directory, path, telemetry) = telemetry();
    let recorder = telemetry.recorder();
    recorder.record(&record("before"));
    let old = directory.path().join("access.log.1");
    std::fs::rename(&path, &old).unwrap();
    telemetry.reopen();
    recorder.record(&record("after"));
    telemetry.close(LONG);
    assert!(lines(&old).concat().contains("before") && lines(&path).concat().contains("after"));
}

#[test]
fn what_is_kept_back_is_counted_and_said_with_the_next_line() {
    let (_directory, path, telemetry) = telemetry();
    let recorder = telemetry.recorder();
    let stranger = |leave| Record { direction: Direction::Inbound, leave, ..record("web") };
    recorder.record(&stranger(Some(Leave::default())));
    recorder.record(&stranger(None));
    recorder.record(&stranger(Some(Leave { kept_back: Some(1) })));
    drop(recorder);
    let lines = lines_after(&telemetry, &path);
    assert_eq!(lines.len(), 2);
    assert!(!lines[0].contains("kept_back") && lines[1].contains("\"kept_back\":1"), "{lines:?}");
    let counted = "svidecar_connections_total{direction=\"inbound\",listener=\"web\"";
    assert!(telemetry.render().lines().any(|line| line.starts_with(counted) && line.ends_with(" 3")));
}

#[test]
fn what_the_allowed_do_is_the_last_to_be_lost() {
    let (_directory, _, telemetry) = telemetry();
    let recorder = telemetry.recorder();
    let writer = telemetry.writer.as_ref().unwrap();
    writer.pretend_to_be_crowded();
    recorder.record(&Record { direction: Direction::Inbound, ..record("web") });
    assert!(lock(&recorder.own.state).batch.is_empty());
    recorder.record(&record("web"));
    assert!(!lock(&recorder.own.state).batch.is_empty());
    let dropped = "svidecar_access_log_dropped_lines_total 1";
    assert!(telemetry.render().contains(dropped));
}
