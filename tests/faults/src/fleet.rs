//! The whole fleet: one server, three agents, two apps, four sidecars and sixteen other workloads, each a process.
//!
//! Owns their configuration, the networks, disks and clocks between which they live, and the registration entries. It must
//! never judge what they do.

mod configuration;

use std::{
    collections::{BTreeMap, HashMap},
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use svidecar_process::clock;
use svidecar_stack::{Binaries, Launch, PATIENCE, binaries, ports, write_secret};

use self::configuration::{Addresses, TRUST_DOMAIN};
use crate::{
    clocks::WallClock,
    disk::Disk,
    link::Link,
    member::Member,
    part::{AGENTS, Part},
};

pub use self::configuration::TTL;

/// How often a command to a server that is away is tried.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// A running fleet.
pub struct Fleet {
    /// Everybody, by part.
    pub members: BTreeMap<Part, Member>,
    /// The network of each agent.
    pub links: Vec<Link>,
    /// Disks of those who store something.
    pub disks: HashMap<Part, Disk>,
    /// Where everybody listens.
    pub addresses: Addresses,
    /// Its files, logs and all.
    pub dir: PathBuf,
    binaries: Binaries,
    registered: Mutex<HashMap<Part, Registered>>,
    /// Held while entries are changed, or must not be.
    changes: tokio::sync::Mutex<()>,
}

/// The entry of one part.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The entry's ID, while there is one.
    pub id: Option<String>,
    /// Since when there is one, or none.
    pub since: Instant,
}

impl Fleet {
    /// Starts everybody, below `dir`, and returns when all are ready.
    ///
    /// # Errors
    /// When one cannot be started, or does not become ready.
    pub async fn start(dir: &Path, library: Option<&Path>) -> Result<Self> {
        let binaries = Binaries::beside_this_program(None)?;
        // Other users read their configuration and find the agents' sockets in here.
        std::fs::set_permissions(dir, Permissions::from_mode(0o755))?;
        let logs = dir.join("logs");
        std::fs::create_dir_all(&logs)?;
        std::fs::set_permissions(&logs, Permissions::from_mode(0o777))?;
        let server = ports::free()?;
        let mut links = Vec::new();
        for _ in 0..AGENTS {
            links.push(Link::to(server).await?);
        }
        let mut fleet = Self {
            members: BTreeMap::new(),
            addresses: Addresses::new(server, &links)?,
            links,
            disks: HashMap::new(),
            dir: dir.to_owned(),
            binaries,
            registered: Mutex::default(),
            changes: tokio::sync::Mutex::default(),
        };
        for part in Part::all() {
            fleet.prepare(part).await?;
            let clock = match part {
                Part::App(_) | Part::Workload(_) => None,
                _ => library.map(|_| WallClock::new(dir, &part.to_string())).transpose()?,
            };
            let mut launch = fleet.launch(part)?;
            if let (Some(clock), Some(library)) = (&clock, library) {
                launch = clock.over(launch, library);
            }
            let ready = fleet.addresses.ready(part);
            let member = Member::start(part, launch, clock, ready, &logs)?;
            member.becomes_ready(PATIENCE).await.with_context(|| format!("at the start of {part}"))?;
            fleet.members.insert(part, member);
        }
        Ok(fleet)
    }

    /// What must be there before it starts.
    async fn prepare(&mut self, part: Part) -> Result<()> {
        if let Part::Server | Part::Agent(_) = part {
            let disk = Disk::mount(&self.dir.join(part.to_string())).await?;
            self.disks.insert(part, disk);
        }
        if let Part::Agent(_) = part {
            let node = format!("spiffe://{TRUST_DOMAIN}/{part}");
            let token =
                self.server(&["token", "generate", "-output", "json", "-spiffeID", &node]).text().await?;
            let token: serde_json::Value = serde_json::from_str(&token)?;
            let token =
                token.get("value").and_then(|value| value.as_str()).context("no token in the answer")?;
            write_secret(&self.dir.join(format!("{part}.token")), token)?;
        }
        if part.user().is_some() {
            self.register(part).await?;
        }
        configuration::write(&self.dir, part, &self.addresses)
    }

    fn launch(&self, part: Part) -> Result<Launch> {
        let ours = std::env::current_exe()?;
        let programs = self.dir.join("programs");
        let config = format!("{part}.yaml");
        let launch = match part {
            Part::Server => Launch::new(self.binaries.server()).args(["run", "-config", &config]),
            Part::Agent(_) => Launch::new(self.binaries.agent()).args(["run", "-config", &config]),
            Part::Proxy(_) => {
                let program = binaries::place(&self.binaries.proxy(), &programs)?;
                Launch::new(program).args(["run", "--config", &config])
            }
            Part::App(number) => {
                let app = self.addresses.app(number);
                Launch::new(&ours).args(["app", &app.http.to_string(), &app.echo.to_string()])
            }
            Part::Workload(_) => Launch::new(binaries::place(&ours, &programs)?)
                .arg("workload")
                .arg(configuration::workload_api(&self.dir, part)),
        };
        let launch = launch.dir(&self.dir).through(binaries::place(&ours, &programs)?);
        Ok(match part.user() {
            Some(user) => launch.user(user),
            None => launch,
        })
    }

    /// A command of the server, on its socket.
    #[must_use]
    pub fn server(&self, args: &[&str]) -> Launch {
        let socket = configuration::server_socket(&self.dir);
        Launch::new(self.binaries.server()).args(args).arg("-socketPath").arg(socket)
    }

    /// One of them.
    ///
    /// # Errors
    /// When it was never started.
    pub fn member(&self, part: Part) -> Result<&Member> {
        self.members.get(&part).with_context(|| format!("there is no {part}"))
    }

    /// Makes the entry of a part, as soon as there is a server.
    ///
    /// # Errors
    /// When there is none for long.
    pub async fn register(&self, part: Part) -> Result<()> {
        let id = part.spiffe_id().with_context(|| format!("{part} has no identity"))?;
        let parent = format!("spiffe://{TRUST_DOMAIN}/agent-{}", part.agent());
        let selector = format!("unix:uid:{}", part.user().unwrap_or_default());
        let ttl = TTL.as_secs().to_string();
        let create = ["entry", "create", "-parentID", &parent, "-spiffeID", &id, "-selector", &selector];
        let command = self.server(&create).args(["-x509SVIDTTL", &ttl]);
        let _changes = self.changes.lock().await;
        let said = insist(&command).await?;
        let id = said.lines().find_map(|line| line.strip_prefix("Entry ID")?.split_once(": "));
        let id = id.with_context(|| format!("no entry ID in:\n{said}"))?.1.trim().to_owned();
        self.note(part, Some(id));
        Ok(())
    }

    /// Deletes the entry of a part, as soon as there is a server.
    ///
    /// # Errors
    /// When there is none for long.
    pub async fn unregister(&self, part: Part) -> Result<()> {
        let id = self.registered(part).and_then(|registered| registered.id);
        let id = id.with_context(|| format!("{part} has no entry"))?;
        let _changes = self.changes.lock().await;
        insist(&self.server(&["entry", "delete", "-entryID", &id])).await?;
        self.note(part, None);
        Ok(())
    }

    /// What is known of a part's entry.
    #[must_use]
    pub fn registered(&self, part: Part) -> Option<Registered> {
        self.registered.lock().ok()?.get(&part).cloned()
    }

    fn note(&self, part: Part, id: Option<String>) {
        if let Ok(mut registered) = self.registered.lock() {
            registered.insert(part, Registered { id, since: clock::monotonic() });
        }
    }

    /// Backs the server up now, and lets it go back to that after `span`. Agents renew meanwhile; administrators change no entry: a
    /// restored server could not know of it.
    ///
    /// # Errors
    /// When there is no server to back up, or it cannot be restored, stopped or started again.
    pub async fn restore(&self, span: Duration) -> Result<()> {
        let _changes = self.changes.lock().await;
        let file = self.dir.join("backup");
        let path = file.to_str().context("no text")?;
        insist(&self.server(&["backup", path])).await?;
        tokio::time::sleep(span).await;
        let server = self.member(Part::Server)?;
        server.end(Signal::SIGTERM).await?;
        let config = format!("{}.yaml", Part::Server);
        let restore =
            Launch::new(self.binaries.server()).args(["restore", path, "--yes", "-config", &config]);
        restore.dir(&self.dir).text().await?;
        // What was moved aside is the operator's to delete; the disk is small.
        for entry in std::fs::read_dir(self.dir.join("server/data"))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("replaced-") {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        server.begin().await
    }

    /// Lets the orders' policy allow interns to look, or not.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn allow_interns(&self, allowed: bool) -> Result<()> {
        configuration::write_orders_policy(&self.dir, allowed)
    }
}

/// Runs a command again until there is a server that takes it.
async fn insist(command: &Launch) -> Result<String> {
    let until = clock::timer() + PATIENCE;
    loop {
        match command.text().await {
            Ok(said) => return Ok(said),
            Err(error) if clock::timer() >= until => return Err(error),
            Err(_) => tokio::time::sleep(TRY_AGAIN).await,
        }
    }
}
