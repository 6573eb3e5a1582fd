//! The race: which subjects run which workloads, in rounds that take turns, and what becomes of the results.

mod exchanges;
mod negotiated;
mod runner;
mod still;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use svidecar_stack::ports;

use self::runner::{Entrant, Runner};
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
            report::keep(&machine::describe()?, &present, workload, table)?;
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

    /// A folder for configuration and logs.
    fn dir(&self, entrant: &Entrant, workload: Workload) -> PathBuf {
        let name = format!("{}-{}-{}", workload.name(), entrant.subject.name(), entrant.rules);
        self.course.stack.dir().join("race").join(name)
    }

    /// Starts an entrant's pair and waits until it works.
    async fn start(&self, entrant: &Entrant, workload: Workload, app: SocketAddr) -> Result<Pair> {
        let between = ports::free()?;
        let scene = Scene {
            course: &self.course,
            server: &self.course.server,
            client: &self.course.client,
            wire: workload.wire(),
            between,
            peer: between,
            app,
            rules: entrant.rules,
            dir: self.dir(entrant, workload),
        };
        let mut pair = entrant.subject.start(&scene)?;
        pair.ready(workload.wire()).await?;
        Ok(pair)
    }

    /// Starts the pairs of all entrants. Who does not get ready is named and left out.
    async fn start_all(&self, workload: Workload, columns: usize, app: SocketAddr) -> Result<Vec<Runner>> {
        let mut runners = Vec::new();
        for entrant in self.entrants(workload) {
            match self.start(&entrant, workload, app).await {
                Ok(pair) => {
                    let log = self.dir(&entrant, workload).join("server-access.log");
                    let access_log = (entrant.subject == Subject::Svidecar).then_some(log);
                    let row = Row::new(entrant.label, columns);
                    runners.push(Runner { pair, row, exchanges: 0, access_log });
                }
                Err(error) => report::say(&format!("{} is left out: {error:#}", entrant.label))?,
            }
        }
        Ok(runners)
    }
}
