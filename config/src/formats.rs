//! The formats of all settings, each with the check that the loader runs on every text of that format.
//!
//! The one list: a type of a setting that is written as text must be in it, or a misspelt value of it would be reported
//! alone and last.

use svidecar_document::text::{Check, format};

use crate::{
    address::{Address, ListenAddress, OptionalListenAddress},
    agent::{EngineSocket, SocketTemplate},
    log::LogLevel,
    proxy::{AccessLogPath, TunnelDestination, Workers},
    text,
    units::{ByteSize, HumanDuration},
};

/// Format and check.
pub(crate) const FORMATS: &[(&str, Check)] = &[
    format::<HumanDuration>(),
    format::<ByteSize>(),
    format::<ListenAddress>(),
    format::<OptionalListenAddress>(),
    format::<Address>(),
    format::<EngineSocket>(),
    format::<SocketTemplate>(),
    format::<LogLevel>(),
    format::<AccessLogPath>(),
    format::<Workers>(),
    format::<TunnelDestination>(),
    text::TRUST_DOMAIN,
    text::SPIFFE_ID,
    text::ID_PATTERN,
    text::HEADER_NAME,
    text::WORKLOAD_ENDPOINT,
];
