//! Workloads in which nobody calls: how soon a pair is there, and what it takes when nothing happens.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use svidecar_process::clock;
use tokio::time::sleep;

use super::lineup::Race;
use super::runner::{Entrant, finish};
use crate::results::{Column, Row};
use crate::subject::Pair;
use crate::workload::Workload;
use crate::{process, report};

/// How often a pair is started in a round.
pub(super) const STARTS: usize = 4;
/// Most rounds of `idle`: memory hardly differs from round to round.
pub(super) const IDLE_ROUNDS: usize = 3;
/// How long an idle pair is watched for context switches.
const WATCHED: Duration = Duration::from_secs(30);
/// What a pair is given to put away what it used, before its memory is looked at.
const SETTLING: Duration = Duration::from_secs(3);

impl Race {
    /// Memory for each connection of many that do nothing, on a pair of its own for each round.
    pub(super) async fn idle(&self) -> Result<(Vec<Column>, Vec<Row>)> {
        let columns = vec![Column::new("KiB/connection", 1), Column::new("pair with them, MiB", 1)];
        let (mut app, address) = self.course.app(Workload::Idle.wire()).await?;
        let mut rows = Vec::new();
        for entrant in self.entrants(Workload::Idle) {
            let mut row = Row::new(entrant.label.clone(), columns.len());
            match self.idle_rounds(&entrant, address, &mut row).await {
                Ok(()) => rows.push(row),
                Err(error) => report::say(&format!("{} is left out: {error:#}", entrant.label))?,
            }
        }
        app.kill().await?;
        Ok((columns, rows))
    }

    async fn idle_rounds(&self, entrant: &Entrant, app: SocketAddr, row: &mut Row) -> Result<()> {
        for round in 1..=self.rounds.min(IDLE_ROUNDS) {
            report::progress(&format!("idle, round {round}: {}", entrant.label))?;
            let pair = self.start(entrant, Workload::Idle, app).await?;
            sleep(SETTLING).await;
            let before = process::pss_kib(&pair.pids()?)?;
            let mut held = self.course.hold(Workload::Idle, pair.entry).await?;
            sleep(SETTLING).await;
            let after = process::pss_kib(&pair.pids()?)?;
            let each = (after as f64 - before as f64) / Workload::Idle.connections() as f64;
            row.add(&[each, after as f64 / 1024.0]);
            held.kill().await?;
            pair.stop().await?;
        }
        Ok(())
    }

    /// From exec of both sidecars to the first answer through them, and then their memory.
    pub(super) async fn starts(&self) -> Result<(Vec<Column>, Vec<Row>)> {
        let columns = vec![Column::new("ms to the first answer", 1), Column::new("idle pair, MiB", 1)];
        let (mut app, address) = self.course.app(Workload::Start.wire()).await?;
        let entrants = self.entrants(Workload::Start);
        let mut runs: Vec<(Entrant, Row)> = Vec::new();
        for entrant in entrants {
            let row = Row::new(entrant.label.clone(), columns.len());
            runs.push((entrant, row));
        }
        for round in 1..=self.rounds {
            let mut still = Vec::new();
            for (entrant, mut row) in runs {
                report::progress(&format!("start, round {round} of {}: {}", self.rounds, row.label))?;
                match self.start_round(&entrant, address, &mut row).await {
                    Ok(()) => still.push((entrant, row)),
                    Err(error) => report::say(&format!("{} is left out: {error:#}", entrant.label))?,
                }
            }
            runs = still;
        }
        let mut rows: Vec<Row> = runs.into_iter().map(|(_, row)| row).collect();
        for row in &mut rows {
            row.forget_missing();
        }
        app.kill().await?;
        Ok((columns, rows))
    }

    async fn start_round(&self, entrant: &Entrant, app: SocketAddr, row: &mut Row) -> Result<()> {
        for turn in 1..=STARTS {
            let start = clock::monotonic();
            let pair = self.start(entrant, Workload::Start, app).await?;
            let took = clock::monotonic() - start;
            let mut pss = f64::NAN;
            if turn == STARTS {
                sleep(SETTLING).await;
                pss = process::pss_kib(&pair.pids()?)? as f64 / 1024.0;
            }
            pair.stop().await?;
            row.add(&[took.as_secs_f64() * 1e3, pss]);
        }
        Ok(())
    }

    /// How often the threads of idle pairs are switched, all pairs at the same time.
    pub(super) async fn wakeups(&self) -> Result<(Vec<Column>, Vec<Row>)> {
        let columns = vec![Column::new("context switches in 30 s", 0)];
        let (mut app, address) = self.course.app(Workload::Wakeups.wire()).await?;
        let mut runners = self.start_all(Workload::Wakeups, columns.len(), address).await?;
        sleep(SETTLING).await;
        let switches = |pair: &Pair| process::context_switches(&pair.pids()?);
        let before = runners.iter().map(|runner| switches(&runner.pair)).collect::<Result<Vec<_>>>()?;
        report::progress("wakeups, 30 s")?;
        sleep(WATCHED).await;
        for (runner, before) in runners.iter_mut().zip(before) {
            let in_the_time = switches(&runner.pair)? - before;
            runner.row.add(&[in_the_time as f64]);
        }
        let rows = finish(runners).await?;
        app.kill().await?;
        Ok((columns, rows))
    }
}
