//! What is written down about each request and each connection.
//!
//! Owns the access log and the metrics: one [`Record`] is one line and one set of metrics. Telemetry fails
//! soft: a full disk or a slow reader costs lines, which are counted, and never a request. Labels come from
//! configuration, never from what a peer sends; the number of series has a hard bound.

pub mod codes;
mod line;
mod metrics;
mod writer;

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use svidecar_config::{
    policy::{Decision, RuleName, Verdict},
    proxy::{AccessLogFormat, AccessLogSettings},
};
use svidecar_id::SpiffeId;

pub use metrics::{CONTENT_TYPE, State};
use metrics::{Metrics, SeriesCache};
use writer::Writer;

/// Whose traffic it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From peers to our workload.
    Inbound,
    /// From our workload to peers.
    Outbound,
}

impl Direction {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What a policy decided, kept for the record when the policy may be gone.
#[derive(Debug, Clone)]
pub struct Decided {
    /// The verdict.
    pub verdict: Verdict,
    rule: Option<RuleName>,
    otherwise: &'static str,
    audited: Vec<RuleName>,
}

impl Decided {
    /// Keeps what a record needs of a decision. Allocates only when an audit rule matched.
    #[must_use]
    pub fn of(decision: &Decision<'_>) -> Self {
        Self {
            verdict: decision.verdict,
            rule: decision.rule().cloned(),
            otherwise: decision.fallback_name(),
            audited: decision.audited.iter().map(|rule| rule.name().clone()).collect(),
        }
    }

    /// The name of the rule that decided, or `default`, or `unauthenticated`.
    #[must_use]
    pub fn rule(&self) -> &str {
        self.rule.as_ref().map_or(self.otherwise, RuleName::as_str)
    }

    /// The audit rules that matched.
    #[must_use]
    pub fn audited(&self) -> &[RuleName] {
        &self.audited
    }
}

/// The facts of an HTTP exchange.
#[derive(Debug, Clone, Copy)]
pub struct HttpFacts<'a> {
    /// The method.
    pub method: &'a str,
    /// The authority or `host` header; empty when there was none.
    pub host: &'a str,
    /// The path as it was forwarded, without its query, which may hold secrets.
    pub path: &'a str,
    /// The protocol: `HTTP/1.1` or `HTTP/2`.
    pub version: http::Version,
    /// The status that the client got; `None` when it got none.
    pub status: Option<http::StatusCode>,
    /// `grpc-status` of the response, when it had one.
    pub grpc_status: Option<u32>,
}

/// All facts of one request, or of one connection that carried no requests.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Whose traffic it is.
    pub direction: Direction,
    /// The listener's name.
    pub listener: &'a str,
    /// The policy's service, or the name of the upstream.
    pub service: &'a str,
    /// When it began.
    pub started: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// The address that connected; `None` for a Unix socket.
    pub client: Option<SocketAddr>,
    /// The verified ID at the other end of the mTLS connection.
    pub peer: Option<&'a SpiffeId>,
    /// The exchange; `None` for a connection.
    pub http: Option<HttpFacts<'a>>,
    /// Bytes from the side that connected.
    pub received: u64,
    /// Bytes to the side that connected.
    pub sent: u64,
    /// The address that it was forwarded to.
    pub upstream: Option<&'a str>,
    /// What the policy said; `None` where none was asked.
    pub decided: Option<&'a Decided>,
    /// Why it failed, one of [`codes`]; `None` when it did not.
    pub code: Option<&'static str>,
    /// The failure in words.
    pub detail: Option<&'a str>,
}

/// The access log and the metrics of a proxy. One value, shared by all workers.
pub struct Telemetry {
    metrics: Metrics,
    format: AccessLogFormat,
    writer: Option<Writer>,
}

impl Telemetry {
    /// Opens the access log and starts the thread that writes it.
    ///
    /// # Errors
    /// When the file of the access log cannot be opened or the thread cannot be started.
    pub fn start(settings: &AccessLogSettings) -> io::Result<Arc<Self>> {
        let metrics = Metrics::new();
        let writer = match settings.format {
            AccessLogFormat::Off => None,
            AccessLogFormat::Json | AccessLogFormat::Text => {
                Some(Writer::start(&settings.path, metrics.dropped_lines())?)
            }
        };
        Ok(Arc::new(Self { metrics, format: settings.format, writer }))
    }

    /// The recorder of one worker. Each worker has its own, so that recording shares no lock.
    #[must_use]
    pub fn recorder(self: &Arc<Self>) -> Recorder {
        Recorder { telemetry: Arc::clone(self), series: SeriesCache::default() }
    }

    /// Gauges and counters of the proxy's own state, for those who know it.
    #[must_use]
    pub const fn state(&self) -> &State {
        self.metrics.state()
    }

    /// All metrics in the text format of OpenMetrics 1.0, to be served as [`CONTENT_TYPE`].
    #[must_use]
    pub fn render(&self) -> String {
        self.metrics.render()
    }

    /// Opens the file of the access log again, after it was rotated away.
    pub fn reopen(&self) {
        if let Some(writer) = &self.writer {
            writer.reopen();
        }
    }

    /// Writes what is still to be written, for at most `deadline`. What is recorded later is dropped.
    pub fn close(&self, deadline: Duration) {
        if let Some(writer) = &self.writer {
            writer.close(deadline);
        }
    }
}

/// Writes records down, for one worker.
pub struct Recorder {
    telemetry: Arc<Telemetry>,
    series: SeriesCache,
}

impl Recorder {
    /// Writes one line and counts. Never blocks and never fails.
    pub fn record(&self, record: &Record<'_>) {
        self.series.count(&self.telemetry.metrics, record);
        let Some(writer) = &self.telemetry.writer else { return };
        let mut line = Vec::with_capacity(512);
        match self.telemetry.format {
            AccessLogFormat::Json => line::json(&mut line, record),
            AccessLogFormat::Text => line::text(&mut line, record),
            AccessLogFormat::Off => return,
        }
        writer.write(line);
    }

    /// What all workers share.
    #[must_use]
    pub const fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }
}
