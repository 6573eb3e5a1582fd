//! What no type can say about settings: how values of different keys fit together.
//!
//! Pure checks, the same for `run` and `validate`. What only a running part can know (whether the policy
//! file parses, whether the CA can honour a TTL) that part checks, through [`crate::load::Loaded::check`].

use crate::{agent::AgentSettings, problems::Problems, proxy::ProxySettings, server::ServerSettings};

pub(crate) fn server(_settings: &ServerSettings, _problems: &mut Problems) {}

pub(crate) fn agent(_settings: &AgentSettings, _problems: &mut Problems) {}

pub(crate) fn proxy(_settings: &ProxySettings, _problems: &mut Problems) {}
