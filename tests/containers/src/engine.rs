//! The Docker Engine, the images and the two generations of Compose.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use svidecar_stack::{Binaries, Launch};
use tokio::sync::OnceCell;

use crate::PATIENCE;

/// The tag of the images that `tests/run` builds. The variable SVIDECAR_TAG names others.
const TAG: &str = "test";

/// Which Compose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compose {
    /// docker-compose 1.29, of the machine.
    V1,
    /// The plugin of Docker's client, built by `tests/setup` from its Go module; the plugin of the machine elsewhere.
    V2,
}

/// An engine that answers, with our images in it.
#[derive(Clone, Debug)]
pub struct Engine {
    docker: PathBuf,
    tools: PathBuf,
    tag: String,
}

impl Engine {
    /// The engine; or nothing, and the skip is written down for `tests/run` to count.
    ///
    /// # Errors
    /// When the skip cannot be written down: no test is skipped silently.
    pub async fn need(test: &str) -> Result<Option<Self>> {
        let binaries = Binaries::beside_this_program(None)?;
        let missing = match in_path("docker") {
            None => "docker",
            Some(docker) => {
                let tag = std::env::var_os("SVIDECAR_TAG").and_then(|tag| tag.into_string().ok());
                let tag = tag.unwrap_or_else(|| TAG.to_owned());
                let engine = Self { docker, tools: binaries.tools(), tag };
                let image = engine.image("proxy");
                if !engine.docker(&["version"]).output().await?.status.success() {
                    "Docker Engine"
                } else if !engine.docker(&["image", "inspect", &image]).output().await?.status.success() {
                    "images of svidecar (`tests/run` builds them)"
                } else {
                    return Ok(Some(engine));
                }
            }
        };
        binaries.skip(test, missing)?;
        Ok(None)
    }

    /// A call of Docker's client.
    #[must_use]
    pub fn docker(&self, args: &[&str]) -> Launch {
        Launch::new(&self.docker).args(args).patience(PATIENCE)
    }

    /// Compose, if it is here; the skip is written down as by [`Self::need`].
    ///
    /// # Errors
    /// When the skip cannot be written down.
    pub fn compose(&self, version: Compose, test: &str) -> Result<Option<Launch>> {
        let built = self.tools.join("compose-v2");
        let (program, name) = match version {
            Compose::V1 => (in_path("docker-compose"), "docker-compose"),
            Compose::V2 => (built.is_file().then_some(built), "compose-v2"),
        };
        if program.is_none() {
            Binaries::beside_this_program(None)?.skip(test, name)?;
        }
        Ok(program.map(|program| Launch::new(program).patience(PATIENCE)))
    }

    /// One of our images: `server`, `agent`, `proxy` or `demo`.
    #[must_use]
    pub fn image(&self, name: &str) -> String {
        format!("svidecar/{name}:{}", self.tag)
    }

    /// Images of nginx and of PostgreSQL, made from Debian's packages; the skip is written down as by [`Self::need`].
    ///
    /// # Errors
    /// When they cannot be made.
    pub async fn example_images(&self, test: &str) -> Result<Option<(String, String)>> {
        static MADE: OnceCell<(String, String)> = OnceCell::const_new();
        if in_path("apt-get").is_none() || in_path("dpkg-deb").is_none() {
            Binaries::beside_this_program(None)?.skip(test, "apt-get")?;
            return Ok(None);
        }
        let made = MADE.get_or_try_init(|| async {
            let script = Launch::new(compose_dir().join("examples/rootfs")).env("SVIDECAR_TAG", TAG);
            let said = script.patience(PATIENCE).text().await?;
            let image = |name: &str| {
                let value =
                    said.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
                value.map(str::to_owned).with_context(|| format!("no {name} in {said}"))
            };
            anyhow::Ok((image("NGINX_IMAGE")?, image("POSTGRES_IMAGE")?))
        });
        made.await.cloned().map(Some)
    }

    /// The tag that our images have.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

/// The group that may open Docker's socket.
///
/// # Errors
/// When there is no socket at the usual place, and none named by `DOCKER_HOST`.
pub fn socket_and_group() -> Result<(PathBuf, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    let named = std::env::var_os("DOCKER_HOST").and_then(|host| host.into_string().ok());
    let path =
        named.as_deref().and_then(|host| host.strip_prefix("unix://")).unwrap_or("/var/run/docker.sock");
    let group = std::fs::metadata(path).with_context(|| format!("cannot look at {path}"))?.gid();
    Ok((path.into(), group))
}

/// The folder `compose/`.
#[must_use]
pub fn compose_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../compose")
}

fn in_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}
