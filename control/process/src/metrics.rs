//! The metrics of a program: recorded through the facade `metrics`, shown as one page for Prometheus.
//!
//! Owns the format of the page. Names and labels are each program's own; so are numbers that it counts in another way and
//! writes onto the page itself.

mod page;

use std::{sync::Arc, time::Duration};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tokio_util::sync::CancellationToken;

pub use page::{Kind, Page};

/// How often samples are taken over into their sums.
const UPKEEP: Duration = Duration::from_secs(5);

/// What has been recorded. A clone shows the same.
#[derive(Clone)]
pub struct Metrics(Arc<PrometheusRecorder>);

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing so far.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(PrometheusBuilder::new().build_recorder()))
    }

    /// Takes all that the process records from now on. In a process whose metrics go elsewhere already (a test) it takes
    /// nothing, and says so.
    pub fn take_all(&self) -> bool {
        let taken = metrics::set_global_recorder(Arc::clone(&self.0)).is_ok();
        if !taken {
            tracing::debug!("metrics are recorded elsewhere");
        }
        taken
    }

    /// Takes what `record` records, and what is recorded later by the handles that it makes.
    pub fn take<T>(&self, record: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&self.0, record)
    }

    /// The page so far.
    #[must_use]
    pub fn page(&self) -> Page {
        Page::of(self.0.handle().render())
    }

    /// Takes samples over into their sums until `shutdown`, so that none waits in memory for somebody to look.
    pub async fn keep_up(self, shutdown: CancellationToken) {
        let handle = self.0.handle();
        while shutdown.run_until_cancelled(tokio::time::sleep(UPKEEP)).await.is_some() {
            handle.run_upkeep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_shown() {
        let (ours, others) = (Metrics::new(), Metrics::new());
        let seen = ours.take(|| {
            metrics::describe_counter!("things_total", "Things that were seen");
            metrics::gauge!("room", "of" => "\"us\"").set(1.5);
            metrics::counter!("things_total")
        });
        seen.increment(2);
        let mut page = ours.page();
        page.family("own_total", Kind::Counter, "Counted elsewhere");
        page.sample("own_total", &[("a", "b")], 3);
        let text = page.into_text();
        for part in [
            "# HELP things_total Things that were seen\n# TYPE things_total counter\nthings_total 2\n",
            "# TYPE room gauge\nroom{of=\"\\\"us\\\"\"} 1.5\n",
            "# HELP own_total Counted elsewhere\n# TYPE own_total counter\nown_total{a=\"b\"} 3\n",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert_eq!(others.page().into_text(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn samples_do_not_wait_for_somebody_who_looks() {
        let metrics = Metrics::new();
        let shutdown = CancellationToken::new();
        let upkeep = tokio::spawn(metrics.clone().keep_up(shutdown.clone()));
        metrics.take(|| metrics::histogram!("took_seconds")).record(1.0);
        tokio::time::sleep(2 * UPKEEP).await;
        assert!(metrics.page().into_text().contains("took_seconds_count 1"));
        shutdown.cancel();
        upkeep.await.unwrap();
    }
}
