//! How much memory the system lets us have, and whether there is little of it left.
//!
//! Owns where that is written: the cgroup of this process and those above it, version 2 and version 1. It is read again once in a
//! while by a task of its own ([`watch`]), never on the way of a request. While memory is short, [`Shares`](crate::Shares) are smaller;
//! where that is not enough, the program is told to cut off whoever holds most. It must never decide who that is.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::{Kind, Page};

/// How often it is looked at: far from the ceiling, and from [`NEAR`] percent of it on.
const LOOK_SELDOM: Duration = Duration::from_millis(500);
const LOOK_OFTEN: Duration = Duration::from_millis(100);
const NEAR: u64 = 60;

/// Memory is short from this part of the ceiling on, in percent, and until it is below the other one.
const SHORT_AT: u64 = 80;
const ENOUGH_AT: u64 = 75;

/// From this part on the greediest are cut off, in percent; and again each time that it has grown by another part. It need not fall:
/// what was freed may stay with the allocator, which has it for the next who asks.
const CUT_AT: u64 = 88;
const GROWN_BY: u64 = 1;

/// Places of one are few up to here: nobody is cut off who has no more.
pub const FEW: usize = 8;

/// Below this part of the ceiling what is used is not ours to give back, in percent: others of the same cgroup have it.
const OURS_AT: u64 = 25;

static IS_SHORT: AtomicBool = AtomicBool::new(false);
static TIMES: AtomicU64 = AtomicU64::new(0);
static CUTS: AtomicU64 = AtomicU64::new(0);

/// How a program that watches is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// It is short: whoever holds most may have to be known soon.
    Short,
    /// It is nearly used up: whoever holds most is to be cut off now.
    Cut,
}

/// What one cgroup has and may have, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    /// Without the files that the kernel would give up at once.
    used: u64,
    ceiling: u64,
}

impl Reading {
    fn is_above(self, percent: u64) -> bool {
        u128::from(self.used) * 100 >= u128::from(self.ceiling) * u128::from(percent)
    }
}

/// Whether memory is short: who has much gets no more.
#[must_use]
pub fn is_short() -> bool {
    IS_SHORT.load(Ordering::Relaxed)
}

/// What is to be said about it where somebody asks how the program is.
#[must_use]
pub fn problem() -> Option<&'static str> {
    is_short()
        .then_some("memory is short: the cgroup is near its limit, and whoever holds much is refused more")
}

/// Looks again and again until `shutdown`, and calls `tell` each time that memory is short. Ends at once where there is no
/// ceiling.
pub async fn watch(shutdown: CancellationToken, tell: impl Fn(Pressure)) {
    let groups = Groups::of_this_process(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
    if groups.0.is_empty() {
        return;
    }
    let mut watched = Watched::default();
    let mut pause = LOOK_OFTEN;
    while shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        let Some(reading) = groups.fullest() else { continue };
        pause = if reading.is_above(NEAR) { LOOK_OFTEN } else { LOOK_SELDOM };
        let was_short = watched.is_short;
        let pressure = watched.look(reading, own_memory);
        IS_SHORT.store(watched.is_short, Ordering::Relaxed);
        let Reading { used, ceiling } = reading;
        match (was_short, watched.is_short) {
            (false, true) => {
                TIMES.fetch_add(1, Ordering::Relaxed);
                warn!(
                    used,
                    ceiling,
                    "Memory is short: who holds much gets no more. Raise the limit of the container or of the unit (`memory.max`), \
                     or lower the limits of connections"
                );
            }
            (true, false) => info!(used, ceiling, "There is memory enough again"),
            _ => {}
        }
        if pressure == Some(Pressure::Cut) {
            CUTS.fetch_add(1, Ordering::Relaxed);
            warn!(used, ceiling, "Memory is nearly used up: whoever holds most is cut off");
        }
        if let Some(pressure) = pressure {
            tell(pressure);
        }
    }
}

/// What was seen so far.
#[derive(Default)]
struct Watched {
    is_short: bool,
    /// How much was used when somebody was cut off.
    cut_at: Option<u64>,
}

impl Watched {
    /// What to do about it; `own` is what this process itself holds.
    fn look(&mut self, reading: Reading, own: impl FnOnce() -> u64) -> Option<Pressure> {
        let is_near = reading.is_above(if self.is_short { ENOUGH_AT } else { SHORT_AT });
        self.is_short = is_near && Reading { used: own(), ..reading }.is_above(OURS_AT);
        if !self.is_short {
            self.cut_at = None;
            return None;
        }
        let next = self.cut_at.map_or(0, |last| last + reading.ceiling / 100 * GROWN_BY);
        if !reading.is_above(CUT_AT) || reading.used < next {
            return Some(Pressure::Short);
        }
        self.cut_at = Some(reading.used);
        Some(Pressure::Cut)
    }
}

/// What this process itself holds, in bytes.
fn own_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default().saturating_mul(1024)
}

/// The cgroups whose limits hold for this process: its own and those above.
struct Groups(Vec<Group>);

struct Group {
    /// The directory with the files.
    directory: PathBuf,
    files: &'static Files,
}

/// What a version of cgroups calls its files.
struct Files {
    ceilings: &'static [&'static str],
    used: &'static str,
    given_up: &'static str,
}

const V2: Files =
    Files { ceilings: &["memory.max", "memory.high"], used: "memory.current", given_up: "inactive_file" };

const V1: Files = Files {
    ceilings: &["memory.limit_in_bytes"],
    used: "memory.usage_in_bytes",
    given_up: "total_inactive_file",
};

/// What version 1 has for no limit: the largest multiple of a page (and whatever is of that size).
const NO_LIMIT: u64 = 1 << 60;

impl Groups {
    /// By the list of this process's cgroups, as cgroups(7) has it, and where they are mounted.
    fn of_this_process(list: &Path, mounted: &Path) -> Self {
        let list = fs::read_to_string(list).unwrap_or_default();
        let mut groups = Vec::new();
        for line in list.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let (root, files) = match controllers {
                "" => (mounted.to_owned(), &V2),
                several if several.split(',').any(|one| one == "memory") => (mounted.join("memory"), &V1),
                _ => continue,
            };
            // In a container the path may be the host's; its own limits are then at the root.
            for path in Path::new(path.trim_start_matches('/')).ancestors() {
                groups.push(Group { directory: root.join(path), files });
            }
        }
        groups.retain(|group| group.read().is_some());
        Self(groups)
    }

    /// The one that is nearest to its ceiling.
    fn fullest(&self) -> Option<Reading> {
        let part =
            |reading: &Reading| u128::from(reading.used) * 1_000_000 / u128::from(reading.ceiling.max(1));
        self.0.iter().filter_map(Group::read).max_by_key(part)
    }
}

impl Group {
    /// None without a ceiling.
    fn read(&self) -> Option<Reading> {
        let number = |name: &&str| -> Option<u64> {
            fs::read_to_string(self.directory.join(name)).ok()?.trim().parse().ok()
        };
        let ceiling = self.files.ceilings.iter().filter_map(number).min().filter(|most| *most < NO_LIMIT)?;
        let all = number(&self.files.used)?;
        let reading = Reading { used: all, ceiling };
        if !reading.is_above(ENOUGH_AT) {
            // What the kernel would give up is not asked for where it makes no difference: that costs it some time.
            return Some(reading);
        }
        let stat = fs::read_to_string(self.directory.join("memory.stat")).unwrap_or_default();
        let given_up = stat.lines().find_map(|line| {
            let (name, bytes) = line.split_once(' ')?;
            (name == self.files.given_up).then(|| bytes.trim().parse::<u64>().ok())?
        });
        Some(Reading { used: all.saturating_sub(given_up.unwrap_or_default()), ceiling })
    }
}

/// Writes whether it is short, and how often it was.
pub fn write(page: &mut Page) {
    let name = "svidecar_memory_short";
    page.family(name, Kind::Gauge, "1 while memory is short: the cgroup is near its limit.");
    page.sample(name, &[], u8::from(is_short()));
    let name = "svidecar_memory_short_total";
    page.family(name, Kind::Counter, "How often memory became short.");
    page.sample(name, &[], TIMES.load(Ordering::Relaxed));
    let name = "svidecar_memory_cuts_total";
    page.family(name, Kind::Counter, "How often whoever held most was cut off for want of memory.");
    page.sample(name, &[], CUTS.load(Ordering::Relaxed));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_files(directory: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(directory).unwrap();
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
    }

    #[test]
    fn the_nearest_limit_counts_and_files_that_are_given_up_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("list");
        fs::write(&list, "0::/system.slice/orders.service\n").unwrap();
        let slice = dir.path().join("system.slice");
        let at = |used| {
            [
                ("memory.max", "1000\n"),
                ("memory.current", used),
                ("memory.stat", "anon 1\ninactive_file 100\n"),
            ]
        };
        write_files(&slice, &at("500\n"));
        let service = slice.join("orders.service");
        write_files(
            &service,
            &[("memory.max", "max\n"), ("memory.high", "400\n"), ("memory.current", "300\n")],
        );
        let groups = Groups::of_this_process(&list, dir.path());
        assert_eq!(groups.fullest(), Some(Reading { used: 300, ceiling: 400 }));
        write_files(&slice, &at("950\n"));
        assert_eq!(groups.fullest(), Some(Reading { used: 850, ceiling: 1000 }));
    }

    #[test]
    fn version_1_has_its_own_names_and_no_limit_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("list");
        fs::write(&list, "4:cpu:/\n3:memory,hugetlb:/docker/1234\n").unwrap();
        let root = dir.path().join("memory");
        let files = |limit| {
            [
                ("memory.limit_in_bytes", limit),
                ("memory.usage_in_bytes", "90\n"),
                ("memory.stat", "total_inactive_file 10\n"),
            ]
        };
        write_files(&root, &files("100\n"));
        assert_eq!(
            Groups::of_this_process(&list, dir.path()).fullest(),
            Some(Reading { used: 80, ceiling: 100 })
        );
        write_files(&root, &files("9223372036854771712\n"));
        assert!(Groups::of_this_process(&list, dir.path()).0.is_empty());
        assert!(Groups::of_this_process(&dir.path().join("none"), dir.path()).0.is_empty());
    }

    #[test]
    fn it_is_short_until_there_is_enough_and_only_if_we_hold_it() {
        let mut watched = Watched::default();
        let mut look = |used, own| watched.look(Reading { used, ceiling: 100 }, || own);
        assert_eq!(look(79, 70), None);
        assert_eq!(look(80, 70), Some(Pressure::Short));
        assert_eq!(look(75, 70), Some(Pressure::Short));
        assert_eq!(look(74, 70), None);
        assert_eq!(look(79, 70), None);
        assert_eq!(look(99, 24), None, "others of the cgroup have it");
        assert!(own_memory() > 0);
    }

    #[test]
    fn whoever_holds_most_is_cut_off_once_for_each_step_that_it_grows() {
        let mut watched = Watched::default();
        let mut look = |used| watched.look(Reading { used, ceiling: 1000 }, || 700);
        assert_eq!(look(870), Some(Pressure::Short));
        assert_eq!(look(880), Some(Pressure::Cut));
        assert_eq!(look(889), Some(Pressure::Short), "what was freed is not given back at once");
        assert_eq!(look(890), Some(Pressure::Cut));
        assert_eq!(look(740), None);
        assert_eq!(look(880), Some(Pressure::Cut));
    }
}
