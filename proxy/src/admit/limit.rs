//! How much of a listener one caller may take: the size of the heads that it sends, its streams, its connections.
//!
//! The stage itself comes last: what is allowed makes its connection one of the listener's. The rest is asked where it is
//! spent, which is before there is a request to admit: while a head is read.

use svidecar_code::Code;
use svidecar_config::proxy::Limits;
use svidecar_process::Share;

use crate::{
    http1,
    http2::{Settings, settings::LONG_FRAME},
    message::refusal::Refusal,
    runtime::{
        budgets::{Counted, Spender},
        standing::Standing,
    },
};

/// For heads of HTTP/1.
#[must_use]
pub fn http1(limits: &Limits) -> http1::Limits {
    http1::Limits { bytes: limits.max_header_bytes.as_usize(), fields: usize::from(limits.max_headers) }
}

/// Streams that whoever was allowed nothing yet may open at a time, over one connection.
const FIRST_STREAMS: u32 = 256;

/// Unfinished heads that are shorter than this count as nothing, in bytes: most heads are.
const SMALL_HEAD: usize = 4 << 10;

/// For heads of HTTP/2 from whoever opens streams for requests alone.
#[must_use]
pub fn http2(limits: &Limits) -> Settings {
    Settings {
        max_header_bytes: u32::try_from(limits.max_header_bytes.as_usize()).unwrap_or(u32::MAX),
        max_headers: u32::from(limits.max_headers),
        connect_protocol: false,
        window_growth: 0,
        ..Settings::default()
    }
}

/// The same from another svidecar, whose streams are connections.
#[must_use]
pub fn shared(limits: &Limits) -> Settings {
    Settings {
        max_streams: limits.max_connections.min(FIRST_STREAMS),
        // The one protocol that streams may be opened for is ours; see `upstream::multiplexed`.
        connect_protocol: true,
        max_frame: LONG_FRAME,
        // They are many callers'.
        paces: true,
        ..http2(limits)
    }
}

/// Streams that a client may open at a time once it was allowed something.
#[must_use]
pub fn streams(limits: &Limits, is_svidecar: bool) -> u32 {
    // Streams of a svidecar are connections, which have a limit of their own.
    if is_svidecar { limits.max_connections } else { Settings::default().max_streams }
}

/// What is allowed makes its connection one of the listener's.
///
/// # Errors
/// When the caller has as many of the listener's connections as it may.
pub fn settle(standing: &Standing) -> Result<(), Refusal> {
    if standing.settle() {
        return Ok(());
    }
    let detail = "it has its share of the connections that limits.max_connections allows";
    Err(Refusal::new(Code::TooManyConnections, detail).closing())
}

/// A place among the requests of the listener, which may be `most`.
///
/// # Errors
/// When the caller has as many of them as it may.
pub fn request(standing: &Standing, most: u32) -> Result<Counted, Refusal> {
    standing.request(most as usize).ok_or_else(|| {
        let detail = format!("it has its share of the {most} requests that limits.max_requests allows");
        Refusal::new(Code::TooManyRequests, detail)
    })
}

/// The room that an unfinished head takes.
#[derive(Default)]
pub struct Unfinished(Option<Share<Spender>>);

impl Unfinished {
    /// So many bytes of a head are there, and it is not complete; it may have `most` of them.
    ///
    /// # Errors
    /// When the caller has as many unfinished heads as it may.
    pub fn grows(&mut self, bytes: usize, most: usize, standing: &Standing) -> Result<(), Refusal> {
        if bytes <= SMALL_HEAD {
            self.0 = None;
        } else if self.0.is_none() {
            self.0 = standing.head(most);
            if self.0.is_none() {
                let detail = "it has sent too many heads in part";
                return Err(Refusal::new(Code::TooManyUnfinished, detail).closing());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use svidecar_config::ByteSize;

    use super::*;

    #[test]
    fn both_versions_of_http_have_the_limits_of_the_settings() {
        let limits = Limits {
            max_connections: 7,
            max_header_bytes: ByteSize::from_bytes(4096),
            max_headers: 16,
            ..Limits::default()
        };
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
        assert_eq!((streams(&limits, false), streams(&limits, true)), (others.max_streams, 7));
        let limits = Limits::default();
        assert_eq!(shared(&limits).max_streams, FIRST_STREAMS);
        assert_eq!(streams(&limits, true), limits.max_connections);
    }
}
