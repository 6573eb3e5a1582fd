//! How much of a listener one caller may take: the size of the heads that it sends, and places among the connections.
//!
//! Asked where it is spent, which is before there is a request to admit: while a head is read, and when a connection comes
//! inside of another. Must never count twice what the accept has counted.

use svidecar_code::Code;
use svidecar_config::proxy::Limits;

use crate::{
    http1,
    http2::{Settings, settings::LONG_FRAME},
    message::refusal::Refusal,
    runtime::life::Life,
};

/// For heads of HTTP/1.
#[must_use]
pub fn http1(limits: &Limits) -> http1::Limits {
    http1::Limits { bytes: limits.max_header_bytes.as_usize(), fields: usize::from(limits.max_headers) }
}

/// For heads of HTTP/2 from whoever opens streams for requests alone.
#[must_use]
pub fn http2(limits: &Limits) -> Settings {
    Settings {
        max_header_bytes: u32::try_from(limits.max_header_bytes.as_usize()).unwrap_or(u32::MAX),
        max_headers: u32::from(limits.max_headers),
        connect_protocol: false,
        ..Settings::default()
    }
}

/// The same from another svidecar, whose streams are connections.
#[must_use]
pub fn shared(limits: &Limits) -> Settings {
    Settings {
        // They have a limit of their own.
        max_streams: limits.max_connections,
        // The one protocol that streams may be opened for is ours; see `upstream::multiplexed`.
        connect_protocol: true,
        max_frame: LONG_FRAME,
        ..http2(limits)
    }
}

/// A place for one more connection, which comes inside of the one that has `life`.
///
/// # Errors
/// When the listener has as many connections as it may.
pub fn place(life: &Life) -> Result<Life, Refusal> {
    life.another().ok_or_else(|| {
        let detail = "the listener has as many connections as it may";
        Refusal::new(Code::TooManyConnections, detail)
    })
}

#[cfg(test)]
mod tests {
    use svidecar_config::ByteSize;

    use super::*;

    #[test]
    fn both_versions_of_http_have_the_limits_of_the_settings() {
        let limits =
            Limits { max_connections: 7, max_header_bytes: ByteSize::from_bytes(4096), max_headers: 16 };
        let heads = http1(&limits);
        assert_eq!((heads.bytes, heads.fields), (4096, 16));
        for settings in [http2(&limits), shared(&limits)] {
            assert_eq!((settings.max_header_bytes, settings.max_headers), (4096, 16));
        }
    }

    #[test]
    fn only_another_svidecar_opens_streams_for_connections() {
        let limits = Limits { max_connections: 7, ..Limits::default() };
        let (others, ours) = (http2(&limits), shared(&limits));
        assert_eq!((others.max_streams, others.connect_protocol), (Settings::default().max_streams, false));
        assert_eq!((ours.max_streams, ours.connect_protocol, ours.max_frame), (7, true, LONG_FRAME));
    }
}
