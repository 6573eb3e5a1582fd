//! How the settings of a proxy fit together.
//!
//! What would quietly weaken the proxy (plain text to another machine, our identity for other machines, an
//! admin page for everyone) needs an `unsafe_…` next to it, written out.

use std::collections::{HashMap, HashSet};

use super::{
    HeaderMode, IdentityHeaderSettings, InboundSettings, ListenerProtocol, OutboundSettings, ProxySettings,
    TunnelDestination, UpstreamSettings, UpstreamTunnel,
};
use crate::{
    address::{Address, ListenAddress},
    problems::Problems,
    text::is_header_name,
    units::HumanDuration,
};

/// Longest name of a listener; it is a label of metrics.
const MAX_NAME: usize = 64;

/// Headers that carry the message itself (RFC 9110 §7.6.1, RFC 9112): an identity there would break it.
const RESERVED_HEADERS: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-client-cert",
];

pub(super) fn proxy(settings: &ProxySettings, problems: &mut Problems) {
    check_identity(settings, problems);
    if let Some(address) = settings.admin.listen.address()
        && !(address.is_local() || settings.admin.unsafe_listen)
    {
        problems.add_with_help(
            "admin.listen",
            format!("{address} can be reached from other machines, and whoever reaches it can ask for SVIDs"),
            "listen on 127.0.0.1 or on a Unix socket, or set `unsafe_listen: true`",
        );
    }
    check_names("inbound", settings.inbound.iter().map(|inbound| inbound.name.as_str()), problems);
    check_names("outbound", settings.outbound.iter().map(|outbound| outbound.name.as_str()), problems);
    check_clashes(settings, problems);
    for (index, inbound) in settings.inbound.iter().enumerate() {
        check_inbound(inbound, &format!("inbound[{index}]"), problems);
    }
    for (index, outbound) in settings.outbound.iter().enumerate() {
        check_outbound(outbound, &format!("outbound[{index}]"), problems);
    }
}

fn check_identity(settings: &ProxySettings, problems: &mut Problems) {
    if let (Some(id), Some(trust_domain)) = (&settings.identity.spiffe_id, &settings.trust_domain)
        && !id.is_member_of(trust_domain)
    {
        let message =
            format!("{id} is not of the trust domain {trust_domain}, which `trust_domain` asks for");
        problems.add("identity.spiffe_id", message);
    }
}

fn check_names<'a>(list: &str, names: impl Iterator<Item = &'a str>, problems: &mut Problems) {
    let mut seen = HashMap::new();
    for (index, name) in names.enumerate() {
        let key = format!("{list}[{index}].name");
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(fits) {
            let message = format!(
                "`{name}` is not a name: 1 to {MAX_NAME} letters, digits, `.`, `_` and `-` are allowed"
            );
            problems.add(key, message);
        } else if let Some(first) = seen.insert(name, index) {
            problems.add(key, format!("the name `{name}` is taken by {list}[{first}]; names are unique"));
        }
    }
}

/// Two listeners at one place: the second could not bind, or would get half of the connections.
fn check_clashes(settings: &ProxySettings, problems: &mut Problems) {
    let mut taken: Vec<(String, &ListenAddress)> = Vec::new();
    let admin = settings.admin.listen.address().map(|address| ("admin.listen".to_owned(), address));
    let inbound =
        settings.inbound.iter().enumerate().map(|(i, one)| (format!("inbound[{i}].listen"), &one.listen));
    let outbound =
        settings.outbound.iter().enumerate().map(|(i, one)| (format!("outbound[{i}].listen"), &one.listen));
    for (key, address) in admin.into_iter().chain(inbound).chain(outbound) {
        match taken.iter().find(|(_, other)| other.clashes_with(address)) {
            Some((other, _)) => problems.add(key, format!("{address} is taken by `{other}`")),
            None => taken.push((key, address)),
        }
    }
}

fn check_inbound(inbound: &InboundSettings, key: &str, problems: &mut Problems) {
    let forward = format!("{key}.forward");
    check_target(&inbound.forward, &forward, problems);
    if !inbound.forward.is_local() && !inbound.unsafe_forward {
        problems.add_with_help(
            forward,
            format!("{} is another machine, which would get the traffic in plain text", inbound.forward),
            "forward to a loopback address or a Unix socket, or set `unsafe_forward: true`",
        );
    } else if leads_to(&inbound.forward, &inbound.listen) {
        problems.add(forward, format!("{} is where this listener itself listens", inbound.forward));
    }
    if inbound.policy.file_name().is_none() {
        problems.add(format!("{key}.policy"), "expected the path of a policy file");
    }
    if inbound.protocol == ListenerProtocol::Tcp {
        if inbound.identity_headers != IdentityHeaderSettings::default() {
            let message = "headers can only be set with `protocol: http`";
            problems.add(format!("{key}.identity_headers"), message);
        }
        if inbound.forward_protocol != super::ForwardProtocol::Auto {
            problems.add_with_help(
                format!("{key}.forward_protocol"),
                "`forward_protocol` only means something with `protocol: http`",
                "set `protocol: http`, or leave `forward_protocol` out",
            );
        }
    }
    check_headers(&inbound.identity_headers, &format!("{key}.identity_headers"), problems);
    let timeouts = &inbound.timeouts;
    check_timeouts(
        [
            ("handshake", timeouts.handshake),
            ("connect", timeouts.connect),
            ("request_headers", timeouts.request_headers),
            ("idle", timeouts.idle),
        ],
        key,
        problems,
    );
    check_limits(&inbound.limits, key, problems);
}

fn check_outbound(outbound: &OutboundSettings, key: &str, problems: &mut Problems) {
    if !outbound.listen.is_local() && !outbound.unsafe_listen {
        problems.add_with_help(
            format!("{key}.listen"),
            format!(
                "{} can be reached from other machines, which would then speak with our identity",
                outbound.listen
            ),
            "listen on a loopback address or on a Unix socket, or set `unsafe_listen: true`",
        );
    }
    for (index, endpoint) in outbound.upstream.endpoints.iter().enumerate() {
        let key = format!("{key}.upstream.endpoints[{index}]");
        check_target(endpoint, &key, problems);
        if leads_to(endpoint, &outbound.listen) {
            problems.add(key, format!("{endpoint} is where this listener itself listens"));
        }
    }
    check_tunnel(outbound, key, problems);
    let timeouts = &outbound.timeouts;
    check_timeouts(
        [
            ("connect", timeouts.connect),
            ("handshake", timeouts.handshake),
            ("request_headers", timeouts.request_headers),
            ("idle", timeouts.idle),
        ],
        key,
        problems,
    );
    check_limits(&outbound.limits, key, problems);
}

fn check_tunnel(outbound: &OutboundSettings, key: &str, problems: &mut Problems) {
    let UpstreamSettings { tunnel, destination, endpoints, .. } = &outbound.upstream;
    let is_hbone = *tunnel == UpstreamTunnel::Hbone;
    if is_hbone && outbound.protocol != ListenerProtocol::Tcp {
        problems.add_with_help(
            format!("{key}.upstream.tunnel"),
            "`hbone` carries bytes of any protocol; this listener looks at requests of HTTP",
            "set `protocol: tcp`, or leave `tunnel` out: requests share connections by themselves",
        );
    }
    match destination {
        Some(_) if !is_hbone => {
            problems.add_with_help(
                format!("{key}.upstream.destination"),
                "`destination` only means something with `tunnel: hbone`",
                "add `tunnel: hbone`, or leave `destination` out",
            );
        }
        Some(TunnelDestination::Address(_)) => {}
        Some(TunnelDestination::Port(_)) | None if is_hbone => {
            for (index, endpoint) in endpoints.iter().enumerate() {
                if matches!(endpoint, Address::Unix(_)) {
                    problems.add(
                        format!("{key}.upstream.endpoints[{index}]"),
                        "a Unix socket has no host that a tunnel could lead to; write `destination: HOST:PORT`",
                    );
                }
            }
        }
        _ => {}
    }
}

fn check_target(target: &Address, key: &str, problems: &mut Problems) {
    if matches!(target, Address::Tcp { port: 0, .. }) {
        problems.add(key, "nothing can be reached at port 0");
    }
}

/// Whether a connection to `target` would come back to `listen`.
fn leads_to(target: &Address, listen: &ListenAddress) -> bool {
    target.to_string().parse().is_ok_and(|target: ListenAddress| target.clashes_with(listen))
}

fn check_timeouts<const N: usize>(timeouts: [(&str, HumanDuration); N], key: &str, problems: &mut Problems) {
    for (name, timeout) in timeouts {
        if timeout.is_zero() {
            problems.add(format!("{key}.timeouts.{name}"), "a wait of `0s` is over before it begins");
        }
    }
}

fn check_limits(limits: &super::Limits, key: &str, problems: &mut Problems) {
    let between = |value: u64, least: u64, most: u64| (least..=most).contains(&value);
    if limits.max_connections == 0 {
        problems.add(format!("{key}.limits.max_connections"), "with 0 connections nothing can be served");
    }
    if !between(limits.max_header_bytes.bytes(), 8 << 10, 16 << 20) {
        let message = format!("expected 8KiB to 16MiB, found {}", limits.max_header_bytes);
        problems.add(format!("{key}.limits.max_header_bytes"), message);
    }
    if !between(limits.max_headers.into(), 16, 4096) {
        problems.add(
            format!("{key}.limits.max_headers"),
            format!("expected 16 to 4096, found {}", limits.max_headers),
        );
    }
}

fn check_headers(headers: &IdentityHeaderSettings, key: &str, problems: &mut Problems) {
    let mut seen = HashSet::new();
    check_header(&headers.spiffe_id_header, &format!("{key}.spiffe_id_header"), &mut seen, problems);
    if headers.mode == HeaderMode::Sanitize && !headers.from_path.is_empty() {
        problems.add(format!("{key}.from_path"), "`mode: sanitize` sets no headers");
    }
    for (index, form) in headers.from_path.iter().enumerate() {
        let mut used = HashSet::new();
        for (name, template) in &form.headers {
            let key = format!("{key}.from_path[{index}].headers.{name}");
            // The same header may be set from several forms of ID: only one of them matches a peer.
            let mut others = seen.clone();
            check_header(name, &key, &mut others, problems);
            if !used.insert(canonical(name)) {
                problems.add(&key, format!("the header `{name}` is set twice"));
            }
            check_template(template, &form.id.capture_names().collect::<Vec<_>>(), &key, problems);
        }
    }
}

fn check_header(name: &str, key: &str, seen: &mut HashSet<String>, problems: &mut Problems) {
    if let Err(error) = is_header_name(name) {
        problems.add(key, error.to_string());
    } else if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        problems.add(key, format!("the header `{name}` is not free to be set"));
    } else if !seen.insert(canonical(name)) {
        problems.add(key, format!("the header `{name}` is set twice"));
    }
}

/// Servers that speak CGI cannot tell `-` from `_`.
fn canonical(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// `{name}` must name a part of the ID; the rest is printable ASCII.
fn check_template(template: &str, parts: &[&str], key: &str, problems: &mut Problems) {
    if template.is_empty() || !template.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        problems.add(key, "expected printable ASCII, such as `{robot_id}`");
    }
    let mut rest = template;
    while let Some((_, after)) = rest.split_once('{') {
        let Some((name, next)) = after.split_once('}') else {
            problems.add(key, format!("`{template}` has a `{{` without its `}}`"));
            return;
        };
        if !parts.contains(&name) {
            let known = if parts.is_empty() { "none".to_owned() } else { parts.join(", ") };
            problems.add(key, format!("`{{{name}}}` is not a part of the ID above; its parts: {known}"));
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests;
