//! Who is in the race, and how their pairs are started.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use svidecar_stack::ports;

use super::runner::{Entrant, Runner};
use crate::course::Course;
use crate::report;
use crate::results::Row;
use crate::subject::{Pair, Scene, Subject};
use crate::workload::Workload;

/// Rules of the policy where a workload does not say otherwise.
pub const RULES: usize = 100;

/// What does not change from workload to workload.
pub struct Race {
    /// Server, agent and programs.
    pub course: Course,
    /// Who takes part.
    pub subjects: Vec<Subject>,
    /// How often each has its turn.
    pub rounds: usize,
    /// How long a turn is counted.
    pub seconds: f64,
}

impl Race {
    /// Who runs in a workload.
    pub fn entrants(&self, workload: Workload) -> Vec<Entrant> {
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
    pub async fn start(&self, entrant: &Entrant, workload: Workload, app: SocketAddr) -> Result<Pair> {
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
    pub async fn start_all(
        &self,
        workload: Workload,
        columns: usize,
        app: SocketAddr,
    ) -> Result<Vec<Runner>> {
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
