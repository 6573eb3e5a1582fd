//! What a rule is about: methods, paths, hosts and headers of a request.
//!
//! Owns one entry of `to`. All parts that are written must match; a part that is not written matches
//! everything. It must never let a fact that is missing, or given twice, help a request through.

use std::{fmt, str::FromStr};

use svidecar_document::{text::InvalidValue, text_value};

use crate::{facts::Request, path::PathPattern, verdict::Verdict};

/// One entry of `to`.
#[derive(Debug, Default)]
pub(crate) struct Target {
    /// Any of them; empty means every method.
    pub(crate) methods: Box<[Box<str>]>,
    /// Any of them; empty means every path.
    pub(crate) paths: Box<[PathPattern]>,
    /// Any of them; empty means every host.
    pub(crate) hosts: Box<[HostPattern]>,
    /// All of them.
    pub(crate) headers: Box<[HeaderMatch]>,
}

/// A part of a [`Target`] that a request does not satisfy.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'p> {
    Method,
    Path,
    Host,
    Header(&'p HeaderMatch),
}

impl Target {
    /// Whether all parts match, for a rule that says `action`.
    #[inline]
    pub(crate) fn matches(&self, request: &Request<'_>, action: Verdict) -> bool {
        self.mismatch(request, action).is_none()
    }

    /// The first part that does not match.
    #[inline]
    pub(crate) fn mismatch(&self, request: &Request<'_>, action: Verdict) -> Option<Part<'_>> {
        let mut methods = self.methods.iter().map(AsRef::as_ref);
        if !self.methods.is_empty() && !methods.any(|wanted: &str| request.method == Some(wanted)) {
            return Some(Part::Method);
        }
        let path = |wanted: &PathPattern| request.path.is_some_and(|path| wanted.matches(path));
        if !self.paths.is_empty() && !self.paths.iter().any(path) {
            return Some(Part::Path);
        }
        if !self.hosts.is_empty() && !self.hosts.iter().any(|wanted| wanted.matches(request.host)) {
            return Some(Part::Host);
        }
        self.headers.iter().find(|header| !header.matches(request, action)).map(Part::Header)
    }
}

/// A host: a name, or `*.` and a name, for one more label; or that there is none.
#[derive(Debug)]
pub(crate) struct HostPattern {
    /// Without a final dot; empty for a request that names no host.
    name: Box<str>,
    /// Any one label stands before the name.
    wildcard: bool,
}

impl HostPattern {
    /// Whether an authority matches, ignoring its port, final dots and case.
    fn matches(&self, authority: Option<&str>) -> bool {
        let Some(authority) = authority else { return self.name.is_empty() };
        let host = host_of(authority);
        if self.wildcard {
            return host
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(&self.name));
        }
        host.eq_ignore_ascii_case(&self.name)
    }
}

impl FromStr for HostPattern {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong = |why: &str| Err(InvalidValue(format!("`{text}`: {why}")));
        if text.is_empty() {
            return Ok(Self { name: text.into(), wildcard: false });
        }
        let (name, wildcard) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let name = name.trim_end_matches('.');
        if name.is_empty() || name.len() > 255 {
            return wrong("a host has 1 to 255 characters");
        }
        if name.contains('*') {
            return wrong("`*.` can only stand at the beginning of a host, for one label");
        }
        if name.contains(|c: char| !c.is_ascii_graphic() || matches!(c, '/' | '@' | '?' | '#' | ',')) {
            return wrong("a host is a DNS name or an IP address");
        }
        let port =
            name.rsplit_once(':').is_some_and(|(before, _)| !before.contains(':') && !name.starts_with('['));
        if port || name.contains("]:") {
            return wrong("hosts are matched without their port; write the name alone");
        }
        Ok(Self { name: name.into(), wildcard })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.wildcard { "*." } else { "" }, self.name)
    }
}

text_value!(HostPattern, "HostPattern", "host-pattern", ["orders.internal", "*.internal"]);

/// The host of an authority: without port and final dots; an IPv6 address keeps its brackets.
fn host_of(authority: &str) -> &str {
    let host = match authority.rsplit_once(':') {
        // The last colon of a bare IPv6 address is not the beginning of a port.
        Some((host, port)) if is_port(port) && (!host.contains(':') || host.ends_with(']')) => host,
        _ => authority,
    };
    host.trim_end_matches('.')
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The value of a header.
#[derive(Debug)]
pub(crate) struct HeaderText(pub(crate) http::HeaderValue);

impl FromStr for HeaderText {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        http::HeaderValue::from_str(text).map(Self).map_err(|_| {
            InvalidValue(format!("`{text}`: a header's value has visible ASCII characters and spaces only"))
        })
    }
}

impl fmt::Display for HeaderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.0.as_bytes()))
    }
}

text_value!(HeaderText, "HeaderText", "header-text", ["test"]);

/// A header that must have one of the given values.
#[derive(Debug)]
pub(crate) struct HeaderMatch {
    pub(crate) name: http::HeaderName,
    pub(crate) values: Box<[HeaderText]>,
}

impl HeaderMatch {
    /// An application may read the first or the last of several values, and take one name for another that reads alike. A deny
    /// rule therefore looks for its value in all of them, and an allow rule wants nothing but it, under its own name.
    fn matches(&self, request: &Request<'_>, action: Verdict) -> bool {
        let Some(headers) = request.headers else { return false };
        let (mut given, mut wanted) = (0_usize, 0_usize);
        headers.visit(self.name.as_str(), &mut |is_same, value| {
            given += 1;
            let counts = is_same || action == Verdict::Deny;
            wanted += usize::from(counts && self.values.iter().any(|text| text.0.as_bytes() == value));
        });
        match action {
            Verdict::Deny => wanted > 0,
            Verdict::Allow => (given, wanted) == (1, 1),
        }
    }
}
