//! One record as one line, JSON or text.
//!
//! Owns the names of the fields and their order. Appends to a batch, without a piece of memory of its own.

use super::{
    Record,
    append::{address, escaped, number, word},
    clock::Stamp,
};
use crate::message::Version;

/// Appends the record as one JSON object (RFC 8259) and a newline.
pub(super) fn json(out: &mut Vec<u8>, started: &Stamp, record: &Record<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(started);
    out.push(b'"');
    match record.preamble {
        [] => preamble(out, record),
        known => out.extend_from_slice(known),
    }
    if let Some(http) = &record.http {
        quoted(out, b",\"method\":\"", http.method);
        quoted(out, b",\"host\":\"", http.host);
        quoted(out, b",\"path\":\"", http.path);
        string(out, b",\"protocol\":\"", version(http.version));
        if let Some(status) = http.status {
            count(out, b",\"status\":", status.into());
        }
        if let Some(status) = http.grpc_status {
            count(out, b",\"grpc_status\":", status.into());
        }
    }
    count(out, b",\"duration_us\":", micros(record));
    count(out, b",\"received\":", record.received);
    count(out, b",\"sent\":", record.sent);
    if let Some(upstream) = record.upstream {
        quoted(out, b",\"upstream\":\"", upstream);
    }
    if let Some(decided) = &record.decided {
        string(out, b",\"decision\":\"", decided.verdict.as_str());
        quoted(out, b",\"rule\":\"", decided.rule);
        for (at, rule) in decided.audited().enumerate() {
            quoted(out, if at == 0 { b",\"audited\":[\"" } else { b",\"" }, rule.as_str());
        }
        if decided.audited().next().is_some() {
            out.push(b']');
        }
    }
    if let Some(code) = record.code {
        string(out, b",\"code\":\"", code.name());
    }
    if let Some(detail) = record.detail {
        quoted(out, b",\"detail\":\"", detail);
    }
    if let Some(lines) = record.leave.and_then(|leave| leave.kept_back) {
        count(out, b",\"kept_back\":", lines);
    }
    out.extend_from_slice(b"}\n");
}

/// Appends what the lines of one connection have in common: where it came from and where it leads.
pub(super) fn preamble(out: &mut Vec<u8>, record: &Record<'_>) {
    // Our own words and IDs of the one grammar need no escapes.
    string(out, b",\"direction\":\"", record.direction.as_str());
    quoted(out, b",\"listener\":\"", record.listener);
    quoted(out, b",\"service\":\"", record.service);
    if let Some(peer) = record.peer {
        string(out, b",\"peer\":\"", peer.as_str());
    }
    if let Some(client) = record.client {
        out.extend_from_slice(b",\"client\":\"");
        address(out, client);
        out.push(b'"');
    }
}

/// Appends the record as words for people: time, direction, listener, request, result, then `key=value`.
pub(super) fn text(out: &mut Vec<u8>, started: &Stamp, record: &Record<'_>) {
    out.extend_from_slice(started);
    for word in [record.direction.as_str(), record.listener] {
        out.push(b' ');
        out.extend_from_slice(word.as_bytes());
    }
    match &record.http {
        Some(http) => {
            pair(out, b" ", http.method);
            pair(out, b" ", http.path);
            match http.status {
                Some(status) => count(out, b" ", status.into()),
                None => out.extend_from_slice(b" -"),
            }
        }
        None => out.extend_from_slice(b" connection"),
    }
    count(out, b" ", micros(record));
    count(out, b"us in=", record.received);
    count(out, b" out=", record.sent);
    if let Some(client) = record.client {
        out.extend_from_slice(b" client=");
        address(out, client);
    }
    if let Some(peer) = record.peer {
        pair(out, b" peer=", peer.as_str());
    }
    if let Some(http) = record.http.as_ref().filter(|http| !http.host.is_empty()) {
        pair(out, b" host=", http.host);
    }
    if let Some(upstream) = record.upstream {
        pair(out, b" upstream=", upstream);
    }
    if let Some(decided) = &record.decided {
        pair(out, b" rule=", decided.rule);
    }
    if let Some(code) = record.code {
        pair(out, b" code=", code.name());
    }
    if let Some(detail) = record.detail {
        pair(out, b" detail=", detail);
    }
    if let Some(decided) = &record.decided {
        pair(out, b" decision=", decided.verdict.as_str());
        for rule in decided.audited() {
            pair(out, b" audited=", rule.as_str());
        }
    }
    if let Some(lines) = record.leave.and_then(|leave| leave.kept_back) {
        count(out, b" kept_back=", lines);
    }
    out.push(b'\n');
}

/// A string that needs no escapes, after a key that ends in its opening quote.
fn string(out: &mut Vec<u8>, key: &[u8], value: &str) {
    out.extend_from_slice(key);
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

/// The same, escaped.
fn quoted(out: &mut Vec<u8>, key: &[u8], value: &str) {
    out.extend_from_slice(key);
    escaped(out, value);
    out.push(b'"');
}

fn count(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    number(out, value);
}

fn pair(out: &mut Vec<u8>, key: &[u8], value: &str) {
    out.extend_from_slice(key);
    word(out, value);
}

fn micros(record: &Record<'_>) -> u64 {
    u64::try_from(record.duration.as_micros()).unwrap_or(u64::MAX)
}

const fn version(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use proptest::prelude::*;

    use svidecar_code::Code;
    use svidecar_process::{clock, throttle::Leave};

    use super::*;
    use crate::record::{Direction, HttpFacts};

    fn record<'a>(path: &'a str, detail: Option<&'a str>) -> Record<'a> {
        Record {
            direction: Direction::Inbound,
            listener: "web",
            service: "orders",
            started: clock::monotonic(),
            duration: Duration::from_micros(1500),
            client: Some(([10, 0, 0, 7], 4242).into()),
            peer: None,
            http: Some(HttpFacts {
                method: "GET",
                host: "orders.internal",
                path,
                version: Version::Http11,
                status: Some(502),
                grpc_status: None,
            }),
            received: 10,
            sent: 20,
            upstream: Some("127.0.0.1:8080"),
            decided: None,
            code: Some(Code::UpstreamRefused),
            detail,
            leave: Some(Leave::default()),
            preamble: &[],
        }
    }

    fn written(encode: fn(&mut Vec<u8>, &Stamp, &Record<'_>), record: &Record<'_>) -> String {
        let mut out = Vec::new();
        encode(&mut out, b"2023-11-14T22:13:20.123Z", record);
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
    fn a_preamble_that_was_kept_makes_the_same_line() {
        let record = record("/orders", None);
        let mut kept = Vec::new();
        preamble(&mut kept, &record);
        assert_eq!(written(json, &Record { preamble: &kept, ..record }), written(json, &record));
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
