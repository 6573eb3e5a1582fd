//! What is written down about a request.

use std::time::Duration;

use anyhow::Result;
use svidecar::admit::decide;
use svidecar::message::{Summary, Version};
use svidecar::record::{Decided, Direction, HttpFacts, Record, Telemetry};
use svidecar_config::proxy::{AccessLogFormat, AccessLogPath, AccessLogSettings};
use svidecar_process::{clock, throttle::Leave};

use super::given::{CLIENT_ID, aside, id, policy};
use super::heads;

pub fn lines(times: usize) -> Result<()> {
    record(AccessLogFormat::Json, times)
}

pub fn metrics(times: usize) -> Result<()> {
    record(AccessLogFormat::Off, times)
}

fn record(format: AccessLogFormat, times: usize) -> Result<()> {
    let path = AccessLogPath::File("/dev/null".into());
    let telemetry = aside(|| Ok(Telemetry::start(&AccessLogSettings { format, path })?))?;
    let recorder = telemetry.recorder();
    let (policy, peer, head) = (policy()?, id(CLIENT_ID)?, heads::request_head()?);
    let mut summary = Summary::default();
    summary.set(&head);
    let decided = Decided::of(&decide::ask(&policy, Some(&peer), &summary, None));
    // One moment for all, so that no run crosses more seconds than another.
    let started = clock::monotonic();
    for _ in 0..times {
        recorder.record(&Record {
            direction: Direction::Inbound,
            listener: "orders",
            service: "orders",
            started,
            duration: Duration::from_micros(1234),
            client: Some(([127, 0, 0, 1], 40_000).into()),
            peer: Some(&peer),
            http: Some(HttpFacts {
                method: summary.method(),
                host: summary.host().unwrap_or_default(),
                path: summary.path(),
                version: Version::Http11,
                status: Some(200),
                grpc_status: None,
            }),
            received: 0,
            sent: 1024,
            upstream: Some("127.0.0.1:8080"),
            decided: Some(decided.ruling(&policy)),
            code: None,
            detail: None,
            leave: Some(Leave::default()),
            preamble: &[],
        });
    }
    Ok(())
}
