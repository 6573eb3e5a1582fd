//! All workers' numbers, by label: which there are, and their sums when somebody scrapes.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indexmap::IndexMap;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use super::{
    cells::{AuditCells, BOUNDS, ListenerCells, ListenerSums, Series, Tally},
    labels::{AuditLabels, Labels, ListenerLabels},
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

/// Shows the sums to the registry that renders them.
#[derive(Debug)]
pub(super) struct Scrape(pub(super) Arc<Sums>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let index = self.0.lock();
        let series = |http: bool| {
            let of_kind = index.series.iter().filter(move |((is_http, _), _)| *is_http == http);
            of_kind
                .map(|((_, labels), workers)| (labels, workers.iter().map(|cells| cells.count.get()).sum()))
        };
        counters(&mut encoder, "requests", "HTTP requests, by decision and outcome.", None, series(true))?;
        let help = "Connections that ended without carrying HTTP requests, by decision and outcome.";
        counters(&mut encoder, "connections", help, None, series(false))?;

        let listeners: Vec<_> =
            index.listeners.iter().map(|(labels, workers)| (labels, ListenerSums::of(workers))).collect();
        durations(&mut encoder, &listeners)?;
        let bytes = Some(&Unit::Bytes);
        let received = listeners.iter().map(|(labels, sums)| (*labels, sums.received));
        counters(&mut encoder, "received", "Bytes from the side that connected.", bytes, received)?;
        let sent = listeners.iter().map(|(labels, sums)| (*labels, sums.sent));
        counters(&mut encoder, "sent", "Bytes to the side that connected.", bytes, sent)?;

        let audited = index
            .audited
            .iter()
            .map(|(labels, workers)| (labels, workers.iter().map(|cells| cells.matches.get()).sum()));
        let help = "Matches of rules that are audited and not enforced.";
        counters(&mut encoder, "audited", help, None, audited)
    }
}

/// One counter for each set of labels; nothing when there is none.
fn counters<'l, L: EncodeLabelSet + 'l>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    values: impl Iterator<Item = (&'l L, u64)>,
) -> fmt::Result {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut encoder = encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
    values.try_for_each(|(labels, value)| {
        encoder.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    })
}

fn durations(
    encoder: &mut DescriptorEncoder<'_>,
    listeners: &[(&ListenerLabels, ListenerSums)],
) -> fmt::Result {
    if listeners.is_empty() {
        return Ok(());
    }
    let help = "Time from the head of a request, or the start of a connection, to its end.";
    let mut encoder =
        encoder.encode_descriptor("duration", help, Some(&Unit::Seconds), MetricType::Histogram)?;
    listeners.iter().try_for_each(|(labels, sums)| histogram(encoder.encode_family(*labels)?, sums))
}

/// The count is made of the buckets that were read, so that the two always agree.
fn histogram(mut encoder: MetricEncoder<'_>, sums: &ListenerSums) -> fmt::Result {
    let seconds = |micros: u64| Duration::from_micros(micros).as_secs_f64();
    let mut buckets: Vec<_> =
        BOUNDS.iter().zip(sums.buckets).map(|(bound, count)| (seconds(*bound), count)).collect();
    buckets.push((f64::INFINITY, sums.over));
    let count = buckets.iter().map(|(_, count)| count).sum();
    encoder.encode_histogram::<NoLabelSet>(seconds(sums.sum), count, &buckets, None)
}
