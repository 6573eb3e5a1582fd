//! The metrics of the proxy.
//!
//! Owns names, labels and their bound. Labels are words of the configuration and stable codes, and the trust
//! domain of a verified peer; never a host, a path or an ID. A worker finds its series in a cache of its own, so
//! that counting a request takes no lock that others want.

mod histogram;
mod labels;
mod state;

use std::{
    fmt::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use indexmap::IndexMap;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family},
    registry::{Registry, Unit},
};

pub use self::state::State;
use self::{
    histogram::Durations,
    labels::{AuditLabels, Labels, LabelsRef, ListenerLabels},
};
use super::Record;

/// The content type of what [`Telemetry::render`](super::Telemetry::render) gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Most combinations of labels. Beyond it the rule and the trust domain are counted as `other`.
const MAX_SERIES: usize = 2000;

/// Everything that is counted.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    connections: Family<Labels, Counter>,
    durations: Family<ListenerLabels, Durations>,
    received: Family<ListenerLabels, Counter>,
    sent: Family<ListenerLabels, Counter>,
    audited: Family<AuditLabels, Counter>,
    dropped_lines: Counter,
    state: State,
    /// How many combinations of labels there are.
    series: AtomicUsize,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("svidecar");
        let metrics = Self {
            requests: Family::default(),
            connections: Family::default(),
            durations: Family::default(),
            received: Family::default(),
            sent: Family::default(),
            audited: Family::default(),
            dropped_lines: Counter::default(),
            state: State::register(&mut registry),
            series: AtomicUsize::new(0),
            registry,
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register("requests", "HTTP requests, by decision and outcome", self.requests.clone());
        registry.register(
            "connections",
            "Connections that ended without carrying HTTP requests, by decision and outcome",
            self.connections.clone(),
        );
        registry.register_with_unit(
            "duration",
            "Time from the head of a request, or the start of a connection, to its end",
            Unit::Seconds,
            self.durations.clone(),
        );
        let received = self.received.clone();
        registry.register_with_unit("received", "Bytes from the side that connected", Unit::Bytes, received);
        let sent = self.sent.clone();
        registry.register_with_unit("sent", "Bytes to the side that connected", Unit::Bytes, sent);
        let audited = self.audited.clone();
        registry.register("audited", "Matches of rules that are audited and not enforced", audited);
        let dropped = self.dropped_lines.clone();
        registry.register("access_log_dropped_lines", "Lines of the access log that were lost", dropped);
        self
    }

    pub(super) fn dropped_lines(&self) -> Counter {
        self.dropped_lines.clone()
    }

    pub(super) const fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            // Writing to memory cannot fail; a scraper sees the end of an empty document.
            text.clear();
            let _ = text.write_str("# EOF\n");
        }
        text
    }

    /// The counters of a combination of labels, which this worker sees for the first time.
    fn series(&self, labels: &Labels, is_http: bool) -> Series {
        let family = if is_http { &self.requests } else { &self.connections };
        let listener = labels.listener_labels();
        Series {
            count: family.get_or_create_owned(labels),
            duration: self.durations.get_or_create_owned(&listener),
            received: self.received.get_or_create_owned(&listener),
            sent: self.sent.get_or_create_owned(&listener),
        }
    }

    /// Makes room for one more combination, unless there are as many as there may be.
    fn admit(&self, labels: &Labels, is_http: bool) -> bool {
        let family = if is_http { &self.requests } else { &self.connections };
        family.get(labels).is_some() || self.series.fetch_add(1, Ordering::Relaxed) < MAX_SERIES
    }
}

/// The handles that one combination of labels leads to.
struct Series {
    count: Counter,
    duration: Durations,
    received: Counter,
    sent: Counter,
}

/// The series that one worker has used. The mutex is the worker's own and never waited for.
#[derive(Default)]
pub(super) struct SeriesCache(Mutex<IndexMap<(bool, Labels), Series>>);

impl SeriesCache {
    /// Counts one record.
    pub(super) fn count(&self, metrics: &Metrics, record: &Record<'_>) {
        let is_http = record.http.is_some();
        let labels = LabelsRef::of(record);
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match cache.get(&labels::Key(is_http, labels)) {
            Some(series) => series.count(record),
            None => {
                let mut labels = labels.to_owned();
                if !metrics.admit(&labels, is_http) {
                    labels.collapse();
                }
                let series = cache
                    .entry((is_http, labels.clone()))
                    .or_insert_with(|| metrics.series(&labels, is_http));
                series.count(record);
            }
        }
        for rule in record.decided.iter().flat_map(|decided| decided.audited()) {
            metrics.audited.get_or_create(&AuditLabels::new(record.service, rule)).inc();
        }
    }
}

impl Series {
    fn count(&self, record: &Record<'_>) {
        self.count.inc();
        self.duration.observe(record.duration);
        self.received.inc_by(record.received);
        self.sent.inc_by(record.sent);
    }
}

#[cfg(test)]
mod tests;
