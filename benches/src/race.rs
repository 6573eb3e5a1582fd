//! The race: which subjects run which workloads, in rounds that take turns, and what becomes of the results.

mod exchanges;
mod lineup;
mod negotiated;
mod runner;
mod still;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use self::lineup::Race;
use crate::course::Course;
use crate::results::Table;
use crate::subject::Subject;
use crate::workload::Workload;
use crate::{decide, identity, machine, report};

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
    /// Let strangers try each subject first, as before a whole race
    #[arg(long)]
    strangers: bool,
    /// Write benches/results.json, README.md and charts, though it is only a part
    #[arg(long)]
    write: bool,
    /// Another svidecar than the one that was built with this program
    #[arg(long)]
    svidecar: Option<PathBuf>,
    /// ghostunnel, which then takes part
    #[arg(long)]
    ghostunnel: Option<PathBuf>,
    /// ztunnel; the race cannot run it yet, and says why
    #[arg(long)]
    ztunnel: Option<PathBuf>,
}

/// Runs it and reports.
pub async fn run(options: Options) -> Result<()> {
    ensure!(options.rounds > 0 && options.seconds > 0.0, "there is nothing to measure in no time");
    report::say(&machine::describe()?)?;
    machine::warn_if_busy()?;
    if let Some(ztunnel) = &options.ztunnel {
        report::say(&format!("{} does not take part: {NO_ZTUNNEL}", ztunnel.display()))?;
    }
    let whole = options.subjects.is_empty() && options.workloads.is_empty();
    let workloads = if options.workloads.is_empty() { Workload::all() } else { options.workloads };
    let course = Course::open(options.svidecar, options.ghostunnel).await?;
    let mut race = Race { course, subjects: Vec::new(), rounds: options.rounds, seconds: options.seconds };
    let asked = if options.subjects.is_empty() { Subject::all() } else { options.subjects };
    let present = race.present(asked, options.strangers || whole).await?;
    for workload in workloads {
        let Some(table) = race.workload(workload).await? else { continue };
        report::say(&report::section(workload, &table))?;
        if whole || options.write {
            report::keep(whole, &machine::describe()?, &present, workload, table)?;
        }
    }
    Ok(())
}

/// Why `ZTUNNEL` names a program in vain.
const NO_ZTUNNEL: &str = "it listens on fixed ports and takes its certificates from an Istio CA alone, so that a pair needs \
                          two network namespaces and that CA; no binary was at hand to prove such a course with";

impl Race {
    /// Takes those subjects whose programs are here, and says of each what it is. Before a whole race, strangers try
    /// each of them.
    async fn present(&mut self, asked: Vec<Subject>, strangers: bool) -> Result<Vec<(String, String)>> {
        let mut said = Vec::new();
        for subject in asked {
            let name = subject.name();
            let Some(version) = subject.version(&self.course).await? else {
                report::say(&format!("{name} is not here and does not take part."))?;
                continue;
            };
            let words = match subject {
                Subject::Direct => "no sidecars".to_owned(),
                Subject::Relay => "two relays that only receive and send, in plain text".to_owned(),
                _ => match self.negotiated(subject).await {
                    Ok(tls) if strangers => {
                        let refuses = self.refuses_strangers(subject).await;
                        refuses.with_context(|| format!("{name} does not check its peer"))?;
                        format!("{version}, {tls}; refuses strangers on both sides")
                    }
                    Ok(tls) => format!("{version}, {tls}"),
                    Err(error) if subject == Subject::Svidecar => return Err(error.context(name)),
                    Err(error) => {
                        report::say(&format!("{name} is left out: {error:#}"))?;
                        continue;
                    }
                },
            };
            report::say(&format!("{name}: {words}"))?;
            self.subjects.push(subject);
            said.push((name, words));
        }
        report::say("")?;
        Ok(said)
    }

    async fn workload(&self, workload: Workload) -> Result<Option<Table>> {
        let (columns, rows) = match workload {
            Workload::Identity if self.subjects.contains(&Subject::Svidecar) => identity::measure().await?,
            Workload::Decide if self.subjects.contains(&Subject::Svidecar) => decide::measure()?,
            Workload::Identity | Workload::Decide => return Ok(None),
            Workload::Idle => self.idle().await?,
            Workload::Start => self.starts().await?,
            Workload::Wakeups => self.wakeups().await?,
            _ => self.exchanges(workload).await?,
        };
        let circumstances =
            format!("{}; load average {}.", self.repeated(workload), machine::load_average()?);
        Ok((!rows.is_empty()).then_some(Table { circumstances, columns, rows }))
    }

    /// How often and how long it was measured, in words.
    fn repeated(&self, workload: Workload) -> String {
        let rounds = self.rounds;
        match workload {
            Workload::Identity => "One entry after the other".to_owned(),
            Workload::Decide => "One measurement".to_owned(),
            Workload::Idle => format!("{} pairs of each", rounds.min(still::IDLE_ROUNDS)),
            Workload::Start => format!("{} starts of each", rounds * still::STARTS),
            Workload::Wakeups => "All pairs idle at the same time".to_owned(),
            _ => format!("Rounds: {rounds} of {} s", self.seconds),
        }
    }
}
