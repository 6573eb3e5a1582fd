//! Where the built binaries are. Owns no build: a binary that is missing is an error that says how to make it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// Puts a program into a folder of its own: a hard link where that goes, a copy elsewhere. Other users can run it
/// there, whatever the permissions on the way to the original.
///
/// # Errors
/// When the file cannot be made.
pub fn place(program: &Path, dir: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(dir)?;
    let placed = dir.join(program.file_name().context("a program has a name")?);
    if !placed.exists() && std::fs::hard_link(program, &placed).is_err() {
        std::fs::copy(program, &placed).with_context(|| format!("cannot copy to {}", placed.display()))?;
    }
    Ok(placed)
}

/// The folder that holds the binaries of one build profile.
#[derive(Clone, Debug)]
pub struct Binaries {
    dir: PathBuf,
    proxy: PathBuf,
}

impl Binaries {
    /// The binaries of the build that the running program came from: its own folder, or for a test
    /// (in `deps/`) the folder above. `proxy` replaces the proxy among them.
    ///
    /// # Errors
    /// When server, agent or proxy is not there.
    pub fn beside_this_program(proxy: Option<PathBuf>) -> Result<Self> {
        let program = std::env::current_exe().context("cannot tell where this program is")?;
        let dir = program.parent().context("this program has no folder")?;
        let dir = if dir.ends_with("deps") { dir.parent().context("deps has no parent")? } else { dir };
        let found = Self { dir: dir.to_owned(), proxy: proxy.unwrap_or_else(|| dir.join("svidecar")) };
        for path in [found.server(), found.agent(), found.proxy()] {
            ensure!(
                path.is_file(),
                "{} is not built; run `cargo build --workspace --bins` first",
                path.display()
            );
        }
        Ok(found)
    }

    /// The folder itself, for instance `target/debug`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `tests/setup` fetched and built, for instance `target/tools`.
    #[must_use]
    pub fn tools(&self) -> PathBuf {
        self.dir.with_file_name("tools")
    }

    /// Writes down for `tests/run` to count that a test skips itself, and what is missing for it.
    ///
    /// # Errors
    /// When that cannot be written down: no test is skipped silently.
    pub fn skip(&self, test: &str, missing: &str) -> Result<()> {
        let skipped = self.dir.with_file_name("tmp").join("skipped");
        std::fs::create_dir_all(&skipped)?;
        std::fs::write(skipped.join(test), format!("{test}: no {missing} here\n"))
            .context("cannot write down that a test is skipped")
    }

    /// `svidecar-server`.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        self.dir.join("svidecar-server")
    }

    /// `svidecar-agent`.
    #[must_use]
    pub fn agent(&self) -> PathBuf {
        self.dir.join("svidecar-agent")
    }

    /// `svidecar`, the proxy.
    #[must_use]
    pub fn proxy(&self) -> PathBuf {
        self.proxy.clone()
    }

    /// `svidecar-demo`: the plain app and the plain client.
    #[must_use]
    pub fn demo(&self) -> PathBuf {
        self.dir.join("svidecar-demo")
    }
}
