//! The metrics of the proxy.
//!
//! Owns names, labels and their bound. Labels are words of the configuration and stable codes, and the trust
//! domain of a verified peer; never a host, a path or an ID. Each worker counts in cells of its own, which are summed
//! when somebody scrapes: counting a request takes no lock and no line of cache that others want.

mod cells;
mod labels;
mod state;
mod sums;

use std::sync::Arc;

use indexmap::IndexMap;
use metrics::{Counter, counter, describe_counter};
use svidecar_process::{descriptors, log, memory, metrics::Metrics as Recorded};
use tokio_util::sync::CancellationToken;

pub use self::state::{OpenConnections, State};
use self::{
    cells::{AuditCells, ListenerCells, Series},
    labels::{AuditKey, AuditLabels, Key, Labels, ListenerLabels},
    sums::Sums,
};
use super::Record;

const DROPPED_LINES: &str = "svidecar_access_log_dropped_lines_total";

/// Everything that is counted.
pub(super) struct Metrics {
    recorded: Recorded,
    sums: Arc<Sums>,
    dropped_lines: Counter,
    state: State,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let recorded = Recorded::new();
        let state = State::new(&recorded);
        let dropped_lines = recorded.take(|| {
            describe_counter!(DROPPED_LINES, "Lines of the access log that were lost.");
            counter!(DROPPED_LINES)
        });
        Self { recorded, sums: Arc::default(), dropped_lines, state }
    }

    /// The counters of one more worker.
    pub(super) fn counters(&self) -> Counters {
        Counters {
            sums: Arc::clone(&self.sums),
            series: IndexMap::new(),
            recent: [0; RECENT],
            listeners: IndexMap::new(),
            audited: IndexMap::new(),
        }
    }

    pub(super) fn dropped_lines(&self) -> Counter {
        self.dropped_lines.clone()
    }

    pub(super) const fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn keep_up(&self, stop: CancellationToken) -> impl Future<Output = ()> + use<> {
        self.recorded.clone().keep_up(stop)
    }

    pub(super) fn render(&self) -> String {
        let mut page = self.recorded.page();
        self.state.write(&mut page);
        self.sums.write(&mut page);
        descriptors::write(&mut page);
        log::write(&mut page);
        memory::write(&mut page);
        page.into_text()
    }
}

/// Places in which a worker remembers where a series was found.
const RECENT: usize = 32;

/// The numbers that one worker counts, and where it finds them.
pub(super) struct Counters {
    sums: Arc<Sums>,
    series: IndexMap<(bool, Labels), Arc<Series>>,
    /// Where in `series` records like this were counted last: mostly, the next one counts there too and nothing is hashed.
    recent: [usize; RECENT],
    listeners: IndexMap<ListenerLabels, Arc<ListenerCells>>,
    audited: IndexMap<AuditLabels, Arc<AuditCells>>,
}

impl Counters {
    /// Counts one record.
    pub(super) fn count(&mut self, record: &Record<'_>) {
        let key = Key::of(record);
        let place = key.rough() % RECENT;
        let recent = self.recent.get(place).and_then(|at| self.series.get_index(*at));
        match recent.filter(|(labels, _)| key.is(labels)) {
            Some((_, series)) => series.add(record),
            None => {
                let at = self.series.get_index_of(&key).unwrap_or_else(|| self.open(&key));
                if let Some((_, series)) = self.series.get_index(at) {
                    series.add(record);
                }
                if let Some(recent) = self.recent.get_mut(place) {
                    *recent = at;
                }
            }
        }
        for rule in record.decided.iter().flat_map(super::Ruling::audited) {
            let key = AuditKey { service: record.service, rule };
            match self.audited.get(&key) {
                Some(cells) => cells.matches.add(1),
                None => {
                    let cells = self.sums.add_audited(key.to_labels());
                    cells.matches.add(1);
                    self.audited.insert(key.to_labels(), cells);
                }
            }
        }
    }

    /// Where the numbers are of a combination of labels that this worker has not seen before.
    fn open(&mut self, key: &Key<'_>) -> usize {
        let mut labels = key.to_labels();
        if !self.sums.admits(&labels) {
            labels.1.collapse();
        }
        if let Some(known) = self.series.get_index_of(&labels) {
            return known;
        }
        let of_listener = labels.1.listener_labels();
        let listener = self
            .listeners
            .entry(of_listener)
            .or_insert_with_key(|labels| self.sums.add_listener(labels.clone()));
        let series = self.sums.add_series(labels.clone(), Arc::clone(listener));
        self.series.insert_full(labels, series).0
    }
}

impl Series {
    fn add(&self, record: &Record<'_>) {
        self.count.add(1);
        self.listener.durations.observe(record.duration);
        self.listener.received.add(record.received);
        self.listener.sent.add(record.sent);
    }
}

#[cfg(test)]
mod tests;
