//! All workers' numbers, by label: which there are, and their sums when somebody scrapes.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indexmap::IndexMap;
use svidecar_process::metrics::{Kind, Page};

use super::{
    cells::{AuditCells, BOUNDS, ListenerCells, ListenerSums, Series, Tally},
    labels::{AuditLabels, Labels, ListenerLabels, Pair},
};

/// Most combinations of labels. Beyond it the rule and the trust domain are counted as `other`.
pub(super) const MAX_SERIES: usize = 2000;

/// The numbers of all workers: of each label, one set for each worker that uses it.
#[derive(Debug, Default)]
pub(super) struct Sums(Mutex<Index>);

#[derive(Debug, Default)]
struct Index {
    /// Whether it is HTTP, and the labels.
    series: IndexMap<(bool, Labels), Vec<Arc<Series>>>,
    listeners: IndexMap<ListenerLabels, Vec<Arc<ListenerCells>>>,
    audited: IndexMap<AuditLabels, Vec<Arc<AuditCells>>>,
}

impl Sums {
    /// Whether the combination of labels is known, or there is room for one more.
    pub(super) fn admits(&self, labels: &(bool, Labels)) -> bool {
        let index = self.lock();
        index.series.len() < MAX_SERIES || index.series.contains_key(labels)
    }

    /// New numbers for a worker.
    pub(super) fn add_series(&self, labels: (bool, Labels), listener: Arc<ListenerCells>) -> Arc<Series> {
        let new = Arc::new(Series { count: Tally::default(), listener });
        self.lock().series.entry(labels).or_default().push(Arc::clone(&new));
        new
    }

    /// New numbers for a worker.
    pub(super) fn add_listener(&self, labels: ListenerLabels) -> Arc<ListenerCells> {
        let new = Arc::<ListenerCells>::default();
        self.lock().listeners.entry(labels).or_default().push(Arc::clone(&new));
        new
    }

    /// New numbers for a worker.
    pub(super) fn add_audited(&self, labels: AuditLabels) -> Arc<AuditCells> {
        let new = Arc::<AuditCells>::default();
        self.lock().audited.entry(labels).or_default().push(Arc::clone(&new));
        new
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sums {
    /// Writes the sums onto a page.
    pub(super) fn write(&self, page: &mut Page) {
        let index = self.lock();
        let series = |http: bool| {
            let of_kind = index.series.iter().filter(move |((is_http, _), _)| *is_http == http);
            of_kind.map(|((_, labels), workers)| {
                (labels.pairs(), workers.iter().map(|cells| cells.count.get()).sum())
            })
        };
        let help = "HTTP requests, by decision and outcome.";
        counters(page, "svidecar_requests_total", help, series(true));
        let help = "Connections that ended without carrying HTTP requests, by decision and outcome.";
        counters(page, "svidecar_connections_total", help, series(false));

        let listeners: Vec<_> = index
            .listeners
            .iter()
            .map(|(labels, workers)| (labels.pairs(), ListenerSums::of(workers)))
            .collect();
        durations(page, &listeners);
        let received = listeners.iter().map(|(labels, sums)| (*labels, sums.received));
        counters(page, "svidecar_received_bytes_total", "Bytes from the side that connected.", received);
        let sent = listeners.iter().map(|(labels, sums)| (*labels, sums.sent));
        counters(page, "svidecar_sent_bytes_total", "Bytes to the side that connected.", sent);

        let audited = index
            .audited
            .iter()
            .map(|(labels, workers)| (labels.pairs(), workers.iter().map(|cells| cells.matches.get()).sum()));
        let help = "Matches of rules that are audited and not enforced.";
        counters(page, "svidecar_audited_total", help, audited);
    }
}

/// One counter for each set of labels; nothing when there is none.
fn counters<'l, const N: usize>(
    page: &mut Page,
    name: &str,
    help: &str,
    values: impl Iterator<Item = ([Pair<'l>; N], u64)>,
) {
    let mut values = values.peekable();
    if values.peek().is_some() {
        page.family(name, Kind::Counter, help);
    }
    values.for_each(|(labels, value)| page.sample(name, &labels, value));
}

fn durations(page: &mut Page, listeners: &[([Pair<'_>; 2], ListenerSums)]) {
    if listeners.is_empty() {
        return;
    }
    let help = "Time from the head of a request, or the start of a connection, to its end.";
    page.family("svidecar_duration_seconds", Kind::Histogram, help);
    for ([direction, listener], sums) in listeners {
        page.sample("svidecar_duration_seconds_sum", &[*direction, *listener], seconds(sums.sum));
        let mut count = 0;
        let mut bucket = |bound: &str, observed: u64| {
            count += observed;
            let labels = [("le", bound), *direction, *listener];
            page.sample("svidecar_duration_seconds_bucket", &labels, count);
        };
        for (bound, observed) in BOUNDS.iter().zip(sums.buckets) {
            // With a fraction always, as the label has been written since there are buckets.
            bucket(&format!("{:?}", seconds(*bound)), observed);
        }
        bucket("+Inf", sums.over);
        // It is made of the buckets that were read, so that the two always agree.
        page.sample("svidecar_duration_seconds_count", &[*direction, *listener], count);
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}
