//! One record as one line, JSON or text.
//!
//! Owns the names of the fields. Whatever a peer sends stays inside its field: no byte of it can end the
//! line, the string or, in a terminal, the colour.

use std::io::Write as _;

use jiff::Timestamp;

use super::Record;

/// Appends the record as one JSON object (RFC 8259) and a newline.
pub(super) fn json(out: &mut Vec<u8>, record: &Record<'_>) {
    let mut object = Object { out, first: true };
    object.time("time", record.started);
    object.string("direction", record.direction.as_str());
    object.string("listener", record.listener);
    object.string("service", record.service);
    if let Some(peer) = record.peer {
        object.string("peer", peer.as_str());
    }
    if let Some(client) = record.client {
        object.display("client", client);
    }
    if let Some(http) = &record.http {
        object.string("method", http.method);
        object.string("host", http.host);
        object.string("path", http.path);
        object.string("protocol", version(http.version));
        if let Some(status) = http.status {
            object.number("status", status.as_u16().into());
        }
        if let Some(status) = http.grpc_status {
            object.number("grpc_status", status.into());
        }
    }
    object.number("duration_us", micros(record));
    object.number("received", record.received);
    object.number("sent", record.sent);
    if let Some(upstream) = record.upstream {
        object.string("upstream", upstream);
    }
    if let Some(decided) = record.decided {
        object.display("decision", decided.verdict);
        object.string("rule", decided.rule());
        if !decided.audited().is_empty() {
            object.strings("audited", decided.audited().iter().map(|rule| rule.as_str()));
        }
    }
    if let Some(code) = record.code {
        object.string("code", code);
    }
    if let Some(detail) = record.detail {
        object.string("detail", detail);
    }
    object.out.extend_from_slice(b"}\n");
}

/// Appends the record as words for people: time, direction, listener, request, result, then `key=value`.
pub(super) fn text(out: &mut Vec<u8>, record: &Record<'_>) {
    write_time(out, record.started);
    put(out, format_args!(" {} {}", record.direction.as_str(), record.listener));
    match &record.http {
        Some(http) => {
            out.push(b' ');
            quote_word(out, http.method);
            out.push(b' ');
            quote_word(out, http.path);
            match http.status {
                Some(status) => put(out, format_args!(" {}", status.as_u16())),
                None => out.extend_from_slice(b" -"),
            }
        }
        None => out.extend_from_slice(b" connection"),
    }
    put(out, format_args!(" {}us in={} out={}", micros(record), record.received, record.sent));
    if let Some(client) = record.client {
        put(out, format_args!(" client={client}"));
    }
    let decided = record.decided;
    for (key, value) in [
        ("peer", record.peer.map(svidecar_id::SpiffeId::as_str)),
        ("host", record.http.as_ref().map(|http| http.host).filter(|host| !host.is_empty())),
        ("upstream", record.upstream),
        ("rule", decided.map(super::Decided::rule)),
        ("code", record.code),
        ("detail", record.detail),
    ] {
        if let Some(value) = value {
            put(out, format_args!(" {key}="));
            quote_word(out, value);
        }
    }
    if let Some(decided) = decided {
        put(out, format_args!(" decision={}", decided.verdict));
        for rule in decided.audited() {
            put(out, format_args!(" audited={rule}"));
        }
    }
    out.push(b'\n');
}

/// A JSON object that is being written.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl Object<'_> {
    /// Keys are ours and need no escapes.
    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(if self.first { b"{\"" } else { b",\"" });
        self.first = false;
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn string(&mut self, key: &str, value: &str) {
        self.key(key);
        quote(self.out, value);
    }

    /// For values whose text needs no escapes.
    fn display(&mut self, key: &str, value: impl std::fmt::Display) {
        self.key(key);
        put(self.out, format_args!("\"{value}\""));
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        put(self.out, format_args!("{value}"));
    }

    fn time(&mut self, key: &str, value: std::time::SystemTime) {
        self.key(key);
        self.out.push(b'"');
        write_time(self.out, value);
        self.out.push(b'"');
    }

    fn strings<'s>(&mut self, key: &str, values: impl Iterator<Item = &'s str>) {
        self.key(key);
        self.out.push(b'[');
        for (at, value) in values.enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            quote(self.out, value);
        }
        self.out.push(b']');
    }
}

/// Writing to memory cannot fail.
fn put(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(arguments);
}

/// RFC 3339 in UTC with milliseconds.
fn write_time(out: &mut Vec<u8>, time: std::time::SystemTime) {
    match Timestamp::try_from(time) {
        Ok(time) => put(out, format_args!("{time:.3}")),
        Err(_) => out.extend_from_slice(b"1970-01-01T00:00:00.000Z"),
    }
}

fn micros(record: &Record<'_>) -> u64 {
    u64::try_from(record.duration.as_micros()).unwrap_or(u64::MAX)
}

const fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "HTTP/0.9",
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_11 => "HTTP/1.1",
        http::Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/3",
    }
}

/// A JSON string. Control characters, and those that a terminal obeys, are escaped.
fn quote(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    let mut plain = [0_u8; 4];
    for c in value.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if c.is_control() => put(out, format_args!("\\u{:04x}", u32::from(c))),
            c => out.extend_from_slice(c.encode_utf8(&mut plain).as_bytes()),
        }
    }
    out.push(b'"');
}

/// A word as it is, or quoted when it could be taken for something else.
fn quote_word(out: &mut Vec<u8>, value: &str) {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
    if !value.is_empty() && value.chars().all(plain) {
        out.extend_from_slice(value.as_bytes());
    } else {
        quote(out, value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;
    use crate::record::{Direction, HttpFacts, codes};

    fn record<'a>(path: &'a str, detail: Option<&'a str>) -> Record<'a> {
        Record {
            direction: Direction::Inbound,
            listener: "web",
            service: "orders",
            started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            duration: Duration::from_micros(1500),
            client: Some(([10, 0, 0, 7], 4242).into()),
            peer: None,
            http: Some(HttpFacts {
                method: "GET",
                host: "orders.internal",
                path,
                version: http::Version::HTTP_11,
                status: Some(http::StatusCode::BAD_GATEWAY),
                grpc_status: None,
            }),
            received: 10,
            sent: 20,
            upstream: Some("127.0.0.1:8080"),
            decided: None,
            code: Some(codes::UPSTREAM_REFUSED),
            detail,
        }
    }

    fn written(encode: fn(&mut Vec<u8>, &Record<'_>), record: &Record<'_>) -> String {
        let mut out = Vec::new();
        encode(&mut out, record);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_has_every_fact() {
        assert_eq!(
            written(json, &record("/orders", None)),
            "{\"time\":\"2023-11-14T22:13:20.123Z\",\"direction\":\"inbound\",\"listener\":\"web\",\"service\":\"orders\",\
             \"client\":\"10.0.0.7:4242\",\"method\":\"GET\",\"host\":\"orders.internal\",\"path\":\"/orders\",\
             \"protocol\":\"HTTP/1.1\",\"status\":502,\"duration_us\":1500,\"received\":10,\"sent\":20,\
             \"upstream\":\"127.0.0.1:8080\",\"code\":\"upstream_refused\"}\n"
        );
    }

    #[test]
    fn text_reads_from_left_to_right() {
        assert_eq!(
            written(text, &record("/orders", Some("connection refused"))),
            "2023-11-14T22:13:20.123Z inbound web GET /orders 502 1500us in=10 out=20 client=10.0.0.7:4242 \
             host=orders.internal upstream=127.0.0.1:8080 code=upstream_refused detail=\"connection refused\"\n"
        );
    }

    proptest! {
        /// Whatever a peer sends: one line, valid JSON, and the value comes back as it was.
        #[test]
        fn no_input_breaks_out_of_its_field(path in any::<String>(), detail in any::<String>()) {
            let line = written(json, &record(&path, Some(&detail)));
            prop_assert_eq!(line.matches('\n').count(), 1);
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(value["path"].as_str(), Some(path.as_str()));
            prop_assert_eq!(value["detail"].as_str(), Some(detail.as_str()));
            let line = written(text, &record(&path, Some(&detail)));
            prop_assert!(line.ends_with('\n'));
            prop_assert!(!line.trim_end_matches('\n').chars().any(char::is_control));
        }
    }
}
