//! Reading one entry of `tests`.

use svidecar_id::SpiffeId;

use super::fields::{Fields, Reader};
use crate::{
    policy::{DEFAULT, Protocol, Rule, UNAUTHENTICATED, cases::Case},
    yaml::{Content, Node},
};

/// Reads the test at `node`; `None` when it has a problem, which is noted.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, rules: &[Rule]) -> Option<Case> {
    let known = ["peer", "request", "host", "headers", "expect", "rule"];
    let fields = Fields::of(reader, node, "a test", &known)?;
    let peer = match fields.get("peer") {
        Some(node) => read_peer(reader, node),
        None => {
            reader.missing(
                node.position,
                "peer",
                "write the peer's SPIFFE ID, or `none` for a peer without one",
            );
            None
        }
    };
    let expect = match fields.get("expect") {
        Some(node) => reader.verdict(node),
        None => {
            reader.missing(node.position, "expect", "write `expect: allow` or `expect: deny`");
            None
        }
    };
    let request = match (reader.protocol(), fields.get("request")) {
        (Protocol::Http, Some(node)) => read_request(reader, node).map(Some),
        (Protocol::Http, None) => {
            reader.missing(node.position, "request", "write method and path: `request: GET /orders`");
            None
        }
        (Protocol::Tcp, _) => Some(None),
    };
    if reader.protocol() == Protocol::Tcp {
        for entry in ["request", "host", "headers"].iter().filter_map(|name| fields.entry(name)) {
            reader.problem(
                entry.key_position,
                "a test of a tcp listener has no request: a connection is decided by its peer alone",
            );
        }
    }
    let host = fields.get("host").map_or(Some(None), |node| reader.text(node, "a host").map(Some));
    let headers =
        fields.get("headers").map_or_else(|| Some(http::HeaderMap::new()), |node| read_headers(reader, node));
    let rule = fields.get("rule").map_or(Some(None), |node| read_rule(reader, node, rules).map(Some));
    Some(Case {
        peer: peer?,
        request: request?,
        host: host?.map(Into::into),
        headers: headers?,
        expect: expect?,
        rule: rule?.map(Into::into),
        line: node.position.line,
        column: node.position.column,
    })
}

fn read_peer(reader: &mut Reader<'_>, node: &Node) -> Option<Option<SpiffeId>> {
    let text = reader.text(node, "a peer")?;
    if text == "none" {
        return Some(None);
    }
    match SpiffeId::parse(text) {
        Ok(id) => Some(Some(id)),
        Err(error) => {
            reader.problem(node.position, format!("`{text}` is not a SPIFFE ID: {error}"));
            None
        }
    }
}

fn read_request(reader: &mut Reader<'_>, node: &Node) -> Option<(Box<str>, Box<str>)> {
    let text = reader.text(node, "a request")?;
    let parts = text.split_once(' ').map(|(method, target)| (method, target.trim()));
    match parts {
        Some((method, target))
            if http::Method::from_bytes(method.as_bytes()).is_ok() && target.starts_with('/') =>
        {
            Some((method.into(), target.into()))
        }
        _ => {
            reader.problem(
                node.position,
                format!("`{text}` is not a request; write method and path, such as `GET /orders`"),
            );
            None
        }
    }
}

fn read_headers(reader: &mut Reader<'_>, node: &Node) -> Option<http::HeaderMap> {
    let Content::Map(entries) = &node.content else {
        reader.problem(node.position, "`headers` maps a header's name to its value");
        return None;
    };
    let mut headers = http::HeaderMap::new();
    for entry in entries {
        let name = http::HeaderName::from_bytes(entry.key.as_bytes());
        let value = http::HeaderValue::from_str(reader.text(&entry.value, "a header's value")?);
        let (Ok(name), Ok(value)) = (name, value) else {
            reader.problem(entry.key_position, "this is not a header");
            return None;
        };
        headers.append(name, value);
    }
    Some(headers)
}

fn read_rule<'n>(reader: &mut Reader<'_>, node: &'n Node, rules: &[Rule]) -> Option<&'n str> {
    let name = reader.text(node, "a rule's name")?;
    if matches!(name, DEFAULT | UNAUTHENTICATED) || rules.iter().any(|rule| rule.name.as_str() == name) {
        return Some(name);
    }
    reader.problem(node.position, format!("the policy has no rule named `{name}`"));
    None
}
