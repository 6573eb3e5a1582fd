//! From fields, as they are decoded, to heads.

use super::super::{
    field::{self, Kind},
    hpack::Sink,
};
use crate::message::{Fields, RequestHead, ResponseHead, Version};

/// How large a head may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Octets as RFC 9113 §6.5.2 counts them: 32 more for each field.
    pub bytes: usize,
    /// Fields.
    pub fields: usize,
}

/// Why a head is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It breaks a rule.
    Malformed(&'static str),
    /// It is larger than its limits.
    TooLarge,
}

/// Takes the fields of a block that nobody wants; the tables must stay in step nevertheless.
pub struct Discard;

impl Sink for Discard {
    fn field(&mut self, _: &[u8], _: &[u8], _: Kind, _: bool) {}
}

/// What the readers have in common: the fields after the pseudo-headers, and the limits.
struct Common<'h> {
    fields: &'h mut Fields,
    left: Limits,
    length: Option<u64>,
    has_host: bool,
    /// A regular field has come.
    regular: bool,
    problem: Option<Problem>,
}

impl<'h> Common<'h> {
    fn new(fields: &'h mut Fields, limits: Limits) -> Self {
        Self { fields, left: limits, length: None, has_host: false, regular: false, problem: None }
    }

    fn refuse(&mut self, why: &'static str) {
        self.problem.get_or_insert(Problem::Malformed(why));
    }

    /// Whether there is room for the field, and no reason to ignore what comes.
    fn admit(&mut self, name: &[u8], value: &[u8]) -> bool {
        let size = name.len() + value.len() + 32;
        match (self.left.bytes.checked_sub(size), self.left.fields.checked_sub(1)) {
            (Some(bytes), Some(fields)) => self.left = Limits { bytes, fields },
            _ => _ = self.problem.get_or_insert(Problem::TooLarge),
        }
        self.problem.is_none()
    }

    fn regular(&mut self, name: &[u8], value: &[u8], kind: Kind, sensitive: bool) {
        self.regular = true;
        match kind {
            Kind::Regular => {}
            Kind::ContentLength if self.length.is_some() => return self.refuse("a second content-length"),
            Kind::ContentLength => self.length = field::number(value),
            Kind::Host if self.has_host => return self.refuse("a second host field"),
            Kind::Host => self.has_host = true,
            Kind::Malformed => {
                return self.refuse("a field that HTTP/2 does not allow (RFC 9113 section 8.2)");
            }
            _ => return self.refuse("a pseudo-header field where it must not be"),
        }
        self.push(name, value, sensitive);
    }

    fn push(&mut self, name: &[u8], value: &[u8], sensitive: bool) {
        match sensitive {
            true => self.fields.push_sensitive(name, value),
            false => self.fields.push(name, value),
        }
    }

    fn finish(self) -> Result<Option<u64>, Problem> {
        self.problem.map_or(Ok(self.length), Err)
    }
}

/// Reads a request.
pub struct RequestReader<'h> {
    method: &'h mut String,
    scheme: &'h mut String,
    authority: &'h mut String,
    target: &'h mut String,
    protocol: &'h mut String,
    common: Common<'h>,
}

impl<'h> RequestReader<'h> {
    /// A reader into an empty head.
    pub fn new(head: &'h mut RequestHead, limits: Limits) -> Self {
        let RequestHead { version, method, scheme, authority, target, protocol, fields } = head;
        *version = Version::Http2;
        Self { method, scheme, authority, target, protocol, common: Common::new(fields, limits) }
    }

    /// Checks the whole (RFC 9113 §8.3.1, §8.5; RFC 8441 §4). Returns the length that the request says its body has.
    pub fn finish(mut self, connect_protocol: bool) -> Result<Option<u64>, Problem> {
        if let Some(why) = self.fault(connect_protocol) {
            self.common.refuse(why);
        }
        if self.common.has_host && !self.authority.is_empty() {
            // Of two that agree, the one stays that the rules prefer.
            self.common.fields.remove("host");
        }
        self.common.finish()
    }

    fn fault(&self, connect_protocol: bool) -> Option<&'static str> {
        let host = if self.common.has_host { self.common.fields.get("host") } else { None };
        let is_connect = self.method == "CONNECT";
        if self.method.is_empty() {
            return Some("a request without :method");
        }
        let may_have_protocol = is_connect && connect_protocol;
        if !self.protocol.is_empty() && !may_have_protocol {
            return Some("a :protocol that was not offered");
        }
        if is_connect && self.protocol.is_empty() {
            let plain = self.scheme.is_empty() && self.target.is_empty() && !self.authority.is_empty();
            return (!plain).then_some("a CONNECT with :scheme or :path, or without :authority");
        }
        if self.scheme.is_empty() || self.target.is_empty() {
            return Some("a request without :scheme or :path");
        }
        if self.target == "*" && self.method != "OPTIONS" {
            return Some("a :path of * with a method other than OPTIONS");
        }
        match host {
            None | Some([]) if self.authority.is_empty() => {
                Some("a request without :authority and without host")
            }
            Some(host)
                if !self.authority.is_empty() && !host.eq_ignore_ascii_case(self.authority.as_bytes()) =>
            {
                Some("a host field that differs from :authority")
            }
            _ => None,
        }
    }
}

impl Sink for RequestReader<'_> {
    fn field(&mut self, name: &[u8], value: &[u8], kind: Kind, sensitive: bool) {
        if !self.common.admit(name, value) {
            return;
        }
        let place = match kind {
            Kind::Method => &mut *self.method,
            Kind::Scheme => &mut *self.scheme,
            Kind::Authority => &mut *self.authority,
            Kind::Path => &mut *self.target,
            Kind::Protocol => &mut *self.protocol,
            _ => return self.common.regular(name, value, kind, sensitive),
        };
        if self.common.regular {
            return self.common.refuse("a pseudo-header field after a regular one");
        }
        match std::str::from_utf8(value) {
            Ok(text) if place.is_empty() && !text.is_empty() => place.push_str(text),
            _ => self.common.refuse("a pseudo-header field that comes twice, or is empty"),
        }
    }
}

/// Reads a response, final or interim.
pub struct ResponseReader<'h> {
    status: &'h mut u16,
    common: Common<'h>,
}

impl<'h> ResponseReader<'h> {
    /// A reader into an empty head.
    pub fn new(head: &'h mut ResponseHead, limits: Limits) -> Self {
        let ResponseHead { version, status, fields, .. } = head;
        *version = Version::Http2;
        Self { status, common: Common::new(fields, limits) }
    }

    /// Checks the whole (RFC 9113 §8.3.2, §8.6). Returns the length that the response says its body has.
    pub fn finish(mut self) -> Result<Option<u64>, Problem> {
        match *self.status {
            0 => self.common.refuse("a response without :status"),
            101 => self.common.refuse("a response with status 101, which HTTP/2 does not have"),
            _ => {}
        }
        self.common.finish()
    }
}

impl Sink for ResponseReader<'_> {
    fn field(&mut self, name: &[u8], value: &[u8], kind: Kind, sensitive: bool) {
        if !self.common.admit(name, value) {
            return;
        }
        if kind != Kind::Status {
            return self.common.regular(name, value, kind, sensitive);
        }
        match field::number(value).and_then(|status| u16::try_from(status).ok()) {
            Some(status) if *self.status == 0 && !self.common.regular => *self.status = status,
            _ => self.common.refuse("a :status that comes twice, or after another field"),
        }
    }
}

/// Reads the fields after a body. Those that speak of framing or routing mean nothing there (RFC 9110 §6.5.1) and are
/// left out.
pub struct TrailersReader<'h>(Common<'h>);

impl<'h> TrailersReader<'h> {
    /// A reader into an empty list.
    pub fn new(fields: &'h mut Fields, limits: Limits) -> Self {
        Self(Common::new(fields, limits))
    }

    /// Checks the whole.
    pub fn finish(self) -> Result<(), Problem> {
        self.0.finish().map(|_| ())
    }
}

impl Sink for TrailersReader<'_> {
    fn field(&mut self, name: &[u8], value: &[u8], kind: Kind, sensitive: bool) {
        if self.0.admit(name, value) && !matches!(kind, Kind::ContentLength | Kind::Host) {
            self.0.regular(name, value, kind, sensitive);
        }
    }
}
