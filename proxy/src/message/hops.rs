//! What a head says about the one connection it came over: read, and taken out of it (RFC 9110 §7.6.1).
//!
//! All that is left keeps its order and its case. Never looks at identity headers; those are `headers`'.

use crate::message::{Fields, Names, RequestHead, ResponseHead, Version};

/// The most names that the `Connection` fields of a message may list; the rest are a sign of abuse and stay in the
/// message.
const MAX_CONNECTION_OPTIONS: usize = 16;

/// What `Connection` cannot take away: where a message goes, where it ends, and what has rules of its own here.
const KEPT: [&[u8]; 3] = [b"host", b"content-length", b"te"];

/// What a head said about its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// The connection ends after this message.
    pub close: bool,
    /// The connection goes on after this message, although it is HTTP/1.0.
    pub keep_alive: bool,
    /// The message asks to switch protocols, or agrees to. `Connection` and `Upgrade` are still in it then.
    pub upgrade: bool,
}

/// Takes out of a request what belongs to its connection. A proper request for another protocol stays (RFC 9110 §7.8).
pub fn clean_request(head: &mut RequestHead) -> Hop {
    let may_switch = head.version == Version::Http11 && head.method != "CONNECT";
    clean(&mut head.fields, may_switch)
}

/// Takes out of a response what belongs to its connection. The agreement to another protocol stays; whether anybody had
/// asked for one is the caller's to know.
pub fn clean_response(head: &mut ResponseHead) -> Hop {
    clean(&mut head.fields, head.status == 101)
}

/// Takes out of trailers what must not be there (RFC 9110 §6.5.1).
pub fn clean_trailers(fields: &mut Fields) {
    fields.retain(|name, _| kind(name) == Kind::EndToEnd && !is_one_of(name, &KEPT));
}

/// Says that the connection ends after this message of HTTP/1.
pub fn say_close(fields: &mut Fields) {
    fields.set("connection", b"close");
}

fn clean(fields: &mut Fields, may_switch: bool) -> Hop {
    let options = Options::read(fields);
    let upgrade = may_switch && options.upgrade && asks_for_a_protocol(fields);
    // Of several fields of these names, the first stays alone.
    let (mut has_connection, mut has_upgrade, mut has_te) = (false, false, false);
    let mut trailers = false;
    let suspects = if options.named.is_empty() { OF_A_CONNECTION } else { Names::ALL };
    fields.retain_among(suspects, |name, value| match kind(name) {
        Kind::EndToEnd | Kind::Framing => !options.names(name),
        Kind::HopByHop => false,
        Kind::Connection => upgrade && !std::mem::replace(&mut has_connection, true),
        Kind::Upgrade => upgrade && !std::mem::replace(&mut has_upgrade, true),
        Kind::Te => {
            trailers |= lists(value, b"trailers");
            value.eq_ignore_ascii_case(b"trailers") && !std::mem::replace(&mut has_te, true)
        }
    });
    if upgrade && !fields.get("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"upgrade")) {
        fields.set("connection", b"upgrade");
    }
    // gRPC needs it; other codings end here.
    if trailers && !has_te {
        fields.push(b"te", b"trailers");
    }
    Hop { close: options.close, keep_alive: options.keep_alive, upgrade }
}

/// Whether `Upgrade` names protocols that may pass. h2c by upgrade is deprecated and a known way around proxies
/// (RFC 9113 §3.1): it is dropped, not forwarded.
fn asks_for_a_protocol(fields: &Fields) -> bool {
    let is_h2c = |protocol: &[u8]| {
        let start = protocol.trim_ascii_start();
        start.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"h2c"))
    };
    let mut values = fields.get_all("upgrade").peekable();
    values.peek().is_some() && !values.any(|value| value.split(|byte| *byte == b',').any(is_h2c))
}

/// What the `Connection` fields list.
#[derive(Default)]
struct Options {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    /// Names of other fields; rare, so that nothing is allocated for most messages.
    named: Vec<Vec<u8>>,
}

impl Options {
    fn read(fields: &Fields) -> Self {
        let mut options = Self::default();
        for option in fields.get_all("connection").flat_map(|value| value.split(|byte| *byte == b',')) {
            let option = option.trim_ascii();
            if option.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                options.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                options.upgrade = true;
            } else if options.named.len() < MAX_CONNECTION_OPTIONS
                && !option.is_empty()
                && !is_one_of(option, &KEPT)
            {
                options.named.push(option.to_vec());
            }
        }
        options
    }

    fn names(&self, name: &[u8]) -> bool {
        self.named.iter().any(|named| named.eq_ignore_ascii_case(name))
    }
}

/// What becomes of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It travels on.
    EndToEnd,
    /// It says how the message is framed, which codecs hold to what they do: they write another in its place, or none.
    Framing,
    /// It is removed whether `Connection` names it or not.
    HopByHop,
    Connection,
    Upgrade,
    Te,
}

/// The names of all kinds but the first.
const OF_A_CONNECTION: Names = Names::NONE
    .with(b"te")
    .with(b"upgrade")
    .with(b"connection")
    .with(b"keep-alive")
    .with(b"http2-settings")
    .with(b"proxy-connection");

/// `trailer` is end to end here: it announces the trailers that we do forward.
fn kind(name: &[u8]) -> Kind {
    let (known, kind): (&[&[u8]], Kind) = match name.len() {
        2 => (&[b"te"], Kind::Te),
        7 => (&[b"upgrade"], Kind::Upgrade),
        10 if name.eq_ignore_ascii_case(b"connection") => return Kind::Connection,
        10 => (&[b"keep-alive"], Kind::HopByHop),
        14 => (&[b"http2-settings"], Kind::HopByHop),
        16 => (&[b"proxy-connection"], Kind::HopByHop),
        17 => (&[b"transfer-encoding"], Kind::Framing),
        _ => return Kind::EndToEnd,
    };
    if is_one_of(name, known) { kind } else { Kind::EndToEnd }
}

fn is_one_of(name: &[u8], known: &[&[u8]]) -> bool {
    known.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn lists(value: &[u8], token: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&str, &str)]) -> RequestHead {
        let fields = fields.iter().copied().collect();
        RequestHead { method: "GET".into(), target: "/".into(), fields, ..RequestHead::default() }
    }

    fn expect(head: &RequestHead, fields: &[(&str, &str)]) {
        assert_eq!(head.fields, fields.iter().copied().collect());
    }

    #[test]
    fn what_belongs_to_the_connection_goes_and_the_rest_keeps_its_place() {
        let mut head = request(&[
            ("Accept", "*/*"),
            ("Connection", "keep-alive, X-Private"),
            ("connection", "other"),
            ("x-private", "1"),
            ("X-Custom", "a"),
            ("Other", "2"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AA"),
            ("TE", "gzip, trailers"),
            ("Trailer", "x-sum"),
            ("x-custom", "b"),
        ]);
        let hop = clean_request(&mut head);
        assert_eq!(hop, Hop { keep_alive: true, ..Hop::default() });
        expect(
            &head,
            &[
                ("Accept", "*/*"),
                ("X-Custom", "a"),
                ("Transfer-Encoding", "chunked"),
                ("Trailer", "x-sum"),
                ("x-custom", "b"),
                ("te", "trailers"),
            ],
        );
    }

    #[test]
    fn what_grpc_sends_stays_where_it_is() {
        let fields = [("te", "trailers"), ("content-type", "application/grpc")];
        let mut head = request(&fields);
        assert_eq!(clean_request(&mut head), Hop::default());
        expect(&head, &fields);
    }

    #[test]
    fn connection_cannot_remove_what_says_where_a_message_goes_and_ends() {
        let mut head = request(&[
            ("connection", "host, te, Content-Length, close"),
            ("host", "demo"),
            ("content-length", "3"),
            ("te", "trailers"),
            ("te", "Trailers"),
        ]);
        assert!(clean_request(&mut head).close);
        expect(&head, &[("host", "demo"), ("content-length", "3"), ("te", "trailers")]);
    }

    #[test]
    fn websocket_is_an_upgrade_and_h2c_is_not() {
        for (connection, upgrade, kept) in [
            ("Upgrade", "websocket", Some("Upgrade")),
            ("keep-alive, upgrade", "websocket", Some("upgrade")),
            ("Upgrade, x-other", "websocket", Some("upgrade")),
            ("keep-alive", "websocket", None),
            ("Upgrade, HTTP2-Settings", "h2c", None),
            ("Upgrade", "H2C", None),
            ("Upgrade", "websocket, h2c", None),
        ] {
            let mut head = request(&[
                ("Host", "demo"),
                ("Connection", connection),
                ("Upgrade", upgrade),
                ("Origin", "here"),
            ]);
            let hop = clean_request(&mut head);
            assert_eq!(hop.upgrade, kept.is_some(), "{connection} {upgrade}");
            match kept {
                Some(connection) => expect(
                    &head,
                    &[("Host", "demo"), ("Connection", connection), ("Upgrade", upgrade), ("Origin", "here")],
                ),
                None => expect(&head, &[("Host", "demo"), ("Origin", "here")]),
            }
        }
    }

    #[test]
    fn an_upgrade_that_is_smuggled_beside_another_is_none() {
        let mut head = request(&[("Connection", "upgrade"), ("Upgrade", "websocket"), ("Upgrade", "h2c")]);
        assert!(!clean_request(&mut head).upgrade);
        expect(&head, &[]);
        let mut head = request(&[("Connection", "upgrade"), ("Upgrade", "websocket"), ("Upgrade", "other")]);
        assert!(clean_request(&mut head).upgrade);
        expect(&head, &[("Connection", "upgrade"), ("Upgrade", "websocket")]);
    }

    #[test]
    fn only_http_1_1_can_switch() {
        for version in [Version::Http10, Version::Http2] {
            let mut head = request(&[("connection", "upgrade"), ("upgrade", "websocket")]);
            head.version = version;
            assert!(!clean_request(&mut head).upgrade);
            expect(&head, &[]);
        }
    }

    #[test]
    fn a_response_agrees_to_a_protocol_with_101_alone() {
        for (status, left) in [(101, 2), (426, 0)] {
            let fields = [("Connection", "Upgrade"), ("Upgrade", "websocket")].into_iter().collect();
            let mut head = ResponseHead { status, fields, ..ResponseHead::default() };
            assert_eq!(clean_response(&mut head).upgrade, status == 101);
            assert_eq!(head.fields.len(), left);
        }
    }

    #[test]
    fn trailers_cannot_say_how_a_message_is_framed_or_where_it_goes() {
        let mut fields: Fields = [
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "5"),
            ("Host", "evil"),
            ("Connection", "close"),
            ("TE", "trailers"),
            ("Grpc-Status", "0"),
        ]
        .into_iter()
        .collect();
        clean_trailers(&mut fields);
        assert_eq!(fields, [("Grpc-Status", "0")].into_iter().collect());
    }

    #[test]
    fn the_end_of_a_connection_is_said_once() {
        let mut fields: Fields = [("Connection", "upgrade"), ("connection", "x")].into_iter().collect();
        say_close(&mut fields);
        assert_eq!(fields, [("Connection", "close")].into_iter().collect());
    }
}
