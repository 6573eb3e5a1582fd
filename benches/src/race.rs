//! The race: which subjects run which workloads, in rounds that take turns, and what becomes of the results.

mod exchanges;
mod still;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use crate::course::Course;
use crate::results::{Row, Table};
use crate::subject::{Pair, Scene, Subject};
use crate::workload::Workload;
use crate::{decide, identity, machine, report};

/// Rules of the policy where a workload does not say otherwise.
const RULES: usize = 100;

/// What to run.
#[derive(Args)]
pub struct Options {
    /// Who takes part; all that are here, if none is named
    #[arg(long, value_delimiter = ',')]
    subjects: Vec<Subject>,
    /// What is measured; everything, if none is named
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// How often each subject has its turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a turn is counted
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Write benches/results.json, README.md and charts, though it is only a part
    #[arg(long)]
    write: bool,
    /// Another svidecar than the one that was built with this program
    #[arg(long)]
    svidecar: Option<PathBuf>,
    /// ghostunnel, which then takes part
    #[arg(long)]
    ghostunnel: Option<PathBuf>,
}

/// Who runs in one workload, and how.
struct Entrant {
    label: String,
    subject: Subject,
    rules: usize,
}

/// What does not change from workload to workload.
struct Race {
    course: Course,
    subjects: Vec<Subject>,
    rounds: usize,
    seconds: f64,
}

/// Runs it and reports.
pub async fn run(options: Options) -> Result<()> {
    ensure!(options.rounds > 0 && options.seconds > 0.0, "there is nothing to measure in no time");
    report::say(&machine::describe()?)?;
    machine::warn_if_busy()?;
    let whole = options.subjects.is_empty() && options.workloads.is_empty();
    let workloads = if options.workloads.is_empty() { Workload::all() } else { options.workloads };
    let course = Course::open(options.svidecar, options.ghostunnel).await?;
    let subjects = present(&course, &options.subjects).await?;
    let race = Race { course, subjects, rounds: options.rounds, seconds: options.seconds };
    for workload in workloads {
        let Some(table) = race.workload(workload).await? else { continue };
        report::say(&report::section(workload, &table))?;
        if whole || options.write {
            report::keep(workload, table)?;
        }
    }
    Ok(())
}

/// The subjects whose programs are here; the others are named.
async fn present(course: &Course, asked: &[Subject]) -> Result<Vec<Subject>> {
    let asked = if asked.is_empty() { Subject::all() } else { asked.to_vec() };
    let mut present = Vec::new();
    let mut said = Vec::new();
    for subject in asked {
        match subject.version(course).await? {
            Some(version) => {
                present.push(subject);
                said.push(format!("{} {version}", subject.name()).trim_end().to_owned());
            }
            None => said.push(format!("{} is not here and does not take part", subject.name())),
        }
    }
    report::say(&format!("Subjects: {}.\n", said.join(", ")))?;
    Ok(present)
}

impl Race {
    async fn workload(&self, workload: Workload) -> Result<Option<Table>> {
        let (columns, rows) = match workload {
            Workload::Identity if self.subjects.contains(&Subject::Svidecar) => identity::measure().await?,
            Workload::Decide if self.subjects.contains(&Subject::Svidecar) => decide::measure()?,
            Workload::Idle => self.idle().await?,
            Workload::Start => self.starts().await?,
            Workload::Wakeups => self.wakeups().await?,
            _ => self.exchanges(workload).await?,
        };
        let circumstances = format!(
            "{rounds} rounds of {seconds} s; load average {load}.",
            rounds = self.rounds,
            seconds = self.seconds,
            load = machine::load_average()?
        );
        Ok((!rows.is_empty()).then_some(Table { circumstances, columns, rows }))
    }

    fn entrants(&self, workload: Workload) -> Vec<Entrant> {
        let taking_part = self.subjects.iter().copied().filter(|subject| subject.takes_part_in(workload));
        let sizes: &[usize] = if workload == Workload::Rules { &[10, 10_000] } else { &[RULES] };
        taking_part
            .flat_map(|subject| sizes.iter().map(move |&rules| (subject, rules)))
            .map(|(subject, rules)| Entrant {
                label: match workload {
                    Workload::Rules => format!("{}, {rules} rules", subject.name()),
                    _ => subject.name(),
                },
                subject,
                rules,
            })
            .collect()
    }

    /// Starts an entrant's pair and waits until it works.
    async fn start(&self, entrant: &Entrant, workload: Workload, app: std::net::SocketAddr) -> Result<Pair> {
        let name = format!("{}-{}-{}", workload.name(), entrant.subject.name(), entrant.rules);
        let scene = Scene {
            course: &self.course,
            wire: workload.wire(),
            app,
            rules: entrant.rules,
            dir: self.course.stack.dir().join("race").join(name),
        };
        let mut pair = entrant.subject.start(&scene)?;
        pair.ready(workload.wire()).await?;
        Ok(pair)
    }

    /// Starts the pairs of all entrants. Who does not get ready is named and left out.
    async fn start_all(
        &self,
        workload: Workload,
        columns: usize,
        app: std::net::SocketAddr,
    ) -> Result<Vec<(Pair, Row)>> {
        let mut pairs = Vec::new();
        for entrant in self.entrants(workload) {
            match self.start(&entrant, workload, app).await {
                Ok(pair) => pairs.push((pair, Row::new(entrant.label, columns))),
                Err(error) => report::say(&format!("{} is left out: {error:#}", entrant.label))?,
            }
        }
        Ok(pairs)
    }
}

/// Ends the pairs and keeps what was measured of them.
async fn finish(pairs: Vec<(Pair, Row)>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (pair, mut row) in pairs {
        pair.stop().await?;
        row.forget_missing();
        rows.push(row);
    }
    Ok(rows)
}
