//! Programs that others wrote: where `benches/setup` put them or the machine has them, and their versions.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use svidecar_stack::Launch;

/// Where the programs of others are. What is not here is `None`, and its subject does not take part.
pub struct Tools {
    /// HAProxy.
    pub haproxy: Option<Tool>,
    /// nginx, with its stream module.
    pub nginx: Option<Tool>,
    /// Envoy.
    pub envoy: Option<Tool>,
    /// ghostunnel, by option.
    pub ghostunnel: Option<Tool>,
}

/// One program.
pub struct Tool {
    program: PathBuf,
    /// The root of the unpacked Debian packages that it came from, if it is not the machine's own.
    root: Option<PathBuf>,
}

impl Tools {
    /// Looks in `tools` first, then along `PATH`.
    pub fn find(tools: &Path, ghostunnel: Option<PathBuf>) -> Result<Self> {
        if let Some(given) = &ghostunnel {
            ensure!(given.is_file(), "{} is not a program", given.display());
        }
        let given = |program| Tool { program, root: None };
        Ok(Self {
            haproxy: debian(tools, "haproxy"),
            nginx: debian(tools, "nginx"),
            envoy: envoy(tools).map(given),
            ghostunnel: ghostunnel.map(given),
        })
    }
}

impl Tool {
    /// The program, ready for arguments.
    pub fn launch(&self) -> Launch {
        let launch = Launch::new(&self.program);
        match &self.root {
            Some(root) => launch.env("LD_LIBRARY_PATH", root.join("usr/lib/x86_64-linux-gnu")),
            None => launch,
        }
    }

    /// A file that its package brings.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.as_deref().unwrap_or(Path::new("/")).join(path)
    }

    /// The first thing that looks like a version in what it says; or all that it says in its first line.
    pub async fn version(&self, flag: &str) -> Result<String> {
        let output = self.launch().arg(flag).output().await?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let mut words = text.split([' ', '/', '\n', '-', ',']).map(|word| word.trim_start_matches('v'));
        let version = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
        Ok(version.or_else(|| text.lines().next()).unwrap_or_default().to_owned())
    }
}

fn debian(tools: &Path, name: &str) -> Option<Tool> {
    let root = tools.join("debian");
    let unpacked = root.join("usr/sbin").join(name);
    if unpacked.is_file() {
        return Some(Tool { program: unpacked, root: Some(root) });
    }
    let along = std::env::var_os("PATH")?;
    let sbin = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let program =
        std::env::split_paths(&along).chain(sbin).map(|dir| dir.join(name)).find(|path| path.is_file())?;
    Some(Tool { program, root: None })
}

/// The package's own command is a Python script that runs this.
fn envoy(tools: &Path) -> Option<PathBuf> {
    std::fs::read_dir(tools.join("python/lib"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("site-packages/envoy/_bin/envoy")))
        .find(|path| path.is_file())
}
