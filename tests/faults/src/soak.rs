//! The soak: everybody is started, the load begins, accidents happen by the schedule, and all the time somebody looks whether what
//! must hold holds. Ends at the first thing that does not.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use svidecar_process::clock;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{self, MissedTickBehavior},
};

use crate::{
    clocks,
    fleet::Fleet,
    history::History,
    levels::Level,
    load::{self, Sample},
    part::{Part, WORKLOADS},
    schedule::{self, Abilities, Event},
    strike::{lock, strike},
    verdict::{self, Holding, Verdict},
    workload::News,
};

/// Load without faults, before the first and after the last.
const QUIET: Duration = Duration::from_secs(5);

/// Within which everybody is well after the last fault.
const WELL_WITHIN: Duration = Duration::from_secs(10);

/// Between two looks at everybody.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What the schedule is drawn from.
    pub seed: u64,
    /// For how long there are faults.
    pub span: Duration,
}

/// Runs it in `dir`.
///
/// # Errors
/// The first thing that must not be.
pub async fn run(plan: Plan, dir: &Path) -> Result<()> {
    let library = clocks::library();
    let abilities = Abilities { clocks: library.is_some() };
    let events = schedule::draw(plan.seed, plan.span, abilities)?;
    println!("seed {}: {} faults in {:?}, files in {}", plan.seed, events.len(), plan.span, dir.display());
    if library.is_none() {
        println!("without faults of clocks: libfaketime is not here (the package faketime)");
    }
    let fleet = Arc::new(Fleet::start(dir, library.as_deref()).await?);
    println!("{} processes are ready", fleet.members.len());
    let outcome = Soak::new(Arc::clone(&fleet)).run(events).await;
    for member in fleet.members.values() {
        member.save_log().await?;
    }
    outcome
}

struct Soak {
    fleet: Arc<Fleet>,
    history: Arc<Mutex<History>>,
    news: HashMap<Part, News>,
    counted: BTreeMap<&'static str, Counted>,
    load: JoinSet<()>,
    seen: mpsc::Receiver<Sample>,
}

#[derive(Default)]
struct Counted {
    as_expected: u64,
    excused: u64,
}

impl Soak {
    fn new(fleet: Arc<Fleet>) -> Self {
        let history = Arc::new(Mutex::new(History::default()));
        let mut load = JoinSet::new();
        let (sender, seen) = mpsc::channel(1024);
        for flow in load::flows(&fleet) {
            load.spawn(load::run(flow, Arc::clone(&history), sender.clone()));
        }
        Self { fleet, history, news: HashMap::new(), counted: BTreeMap::new(), load, seen }
    }

    async fn run(mut self, events: Vec<Event>) -> Result<()> {
        self.watch(time::sleep(QUIET)).await?;
        let before = self.levels().await?;

        let mut faults = JoinSet::new();
        for event in events {
            let (fleet, history) = (Arc::clone(&self.fleet), Arc::clone(&self.history));
            faults.spawn(async move {
                time::sleep(event.at).await;
                println!("{event}");
                strike(&fleet, &history, event).await
            });
        }
        self.watch_all(&mut faults).await?;
        let last = clock::monotonic();

        let members: Vec<_> = self.fleet.members.keys().copied().collect();
        let fleet = Arc::clone(&self.fleet);
        self.watch(async {
            for part in members {
                let left = WELL_WITHIN.saturating_sub(clock::monotonic().saturating_duration_since(last));
                fleet.member(part)?.becomes_ready(left).await?;
            }
            Ok::<_, anyhow::Error>(())
        })
        .await??;
        println!("everybody is well {:.3} s after the last fault", (clock::monotonic() - last).as_secs_f64());
        self.watch(time::sleep(WELL_WITHIN + QUIET)).await?;
        self.compare(&before).await?;
        self.load.shutdown().await;
        self.report();
        Ok(())
    }

    /// Judges until all faults are over.
    async fn watch_all(&mut self, faults: &mut JoinSet<Result<()>>) -> Result<()> {
        while let Some(fault) = self.watch(faults.join_next()).await? {
            fault.context("a fault could not be made")??;
        }
        Ok(())
    }

    /// Judges what is seen until `done`.
    async fn watch<T>(&mut self, done: impl Future<Output = T>) -> Result<T> {
        let mut done = std::pin::pin!(done);
        let mut looks = time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                done = &mut done => return Ok(done),
                sample = self.seen.recv() => self.judge(&sample.context("nobody asks any more")?)?,
                _ = looks.tick() => self.look().await?,
            }
        }
    }

    fn judge(&mut self, sample: &Sample) -> Result<()> {
        let counted = self.counted.entry(sample.flow.name).or_default();
        match verdict::of_request(sample, &lock(&self.history)) {
            Verdict::AsExpected => counted.as_expected += 1,
            Verdict::Excused => counted.excused += 1,
            Verdict::Wrong(what) => bail!(
                "a request of \"{}\" {what} (after {:.3} s): {:?}",
                sample.flow.name,
                (sample.until - sample.from).as_secs_f64(),
                sample.outcome
            ),
        }
        Ok(())
    }

    /// Looks at everybody: who has ended by itself, and who has what it should not.
    async fn look(&mut self) -> Result<()> {
        for (part, member) in &self.fleet.members {
            let ended = member.has_ended().await;
            ensure!(
                !ended || lock(&self.history).is_in_trouble(*part),
                "{part} has ended by itself:\n{}",
                member.log().await.tail(20)
            );
        }
        for number in 0..WORKLOADS {
            let part = Part::Workload(number);
            let lines = self.fleet.member(part)?.log().await.subscribe();
            let news = lines.borrow().iter().rev().find_map(|line| line.parse::<News>().ok());
            let now = clock::monotonic();
            let wall = i64::try_from(clock::unix().as_secs())?;
            let Some(registered) = self.fleet.registered(part) else { continue };
            let judged =
                verdict::of_workload(part, &registered, Holding { news, wall, now }, &lock(&self.history));
            if let Err(what) = judged {
                bail!("{part} {what}: {news:?} at {wall}, entry {registered:?}");
            }
            if let Some(news) = news {
                self.news.insert(part, news);
            }
        }
        Ok(())
    }

    async fn levels(&self) -> Result<BTreeMap<Part, Level>> {
        let mut levels = BTreeMap::new();
        for (part, member) in &self.fleet.members {
            levels.insert(*part, member.level().await.with_context(|| format!("the level of {part}"))?);
        }
        Ok(levels)
    }

    async fn compare(&self, before: &BTreeMap<Part, Level>) -> Result<()> {
        for (part, after) in self.levels().await? {
            let first = before.get(&part).context("no level")?;
            ensure!(after.is_back_at(*first), "{part} has not come down: {first:?} before, {after:?} after");
        }
        Ok(())
    }

    fn report(&self) {
        for (flow, Counted { as_expected, excused }) in &self.counted {
            println!("{flow}: {as_expected} as expected, {excused} excused");
        }
    }
}
