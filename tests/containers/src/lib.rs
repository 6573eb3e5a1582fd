//! What the tests on a Docker Engine share: the engine, and projects of Compose that leave nothing behind.
//!
//! Owns no test. Where no engine answers, or the images are not built, a test skips itself by name.

mod engine;
mod project;

use std::time::Duration;

pub use engine::{Compose, Engine, compose_dir, socket_and_group};
pub use project::Project;

/// The longest that a step with containers may take: generous, for it only decides how long a failure takes.
pub const PATIENCE: Duration = Duration::from_secs(180);
