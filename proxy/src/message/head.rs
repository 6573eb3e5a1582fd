//! The heads of requests and responses, in a form that neither version of HTTP owns.
//!
//! A head is used again for the next message of its connection: [`RequestHead::clear`] keeps the memory.

use super::Fields;

/// What a head, or a part of it, may keep in memory for the next message, in bytes: more than most heads have.
pub const MOST_KEPT: usize = 8 * 1024;

/// The version that a message was written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

/// The head of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestHead {
    /// The version it came in.
    pub version: Version,
    /// A token, in the case it came in.
    pub method: String,
    /// `http` or `https`, where the request names one: absolute-form, or `:scheme`. Else empty.
    pub scheme: String,
    /// Host and port as the target names them: absolute-form, authority-form, or `:authority`. Else empty, and the `Host`
    /// field says it; see [`Self::host`].
    pub authority: String,
    /// Path and query, or `*`. Empty for CONNECT without `:path`.
    pub target: String,
    /// `:protocol` of an extended CONNECT (RFC 8441). Else empty.
    pub protocol: String,
    /// The fields, `Host` among them where HTTP/1.1 sent it.
    pub fields: Fields,
}

/// The head of a response, final or interim.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResponseHead {
    /// The version it came in.
    pub version: Version,
    /// 100 to 999.
    pub status: u16,
    /// The words after the status, which only HTTP/1.1 has.
    pub reason: Vec<u8>,
    /// The fields.
    pub fields: Fields,
}

impl RequestHead {
    /// Forgets the request and keeps the memory.
    pub fn clear(&mut self) {
        self.version = Version::default();
        for text in
            [&mut self.method, &mut self.scheme, &mut self.authority, &mut self.target, &mut self.protocol]
        {
            text.clear();
        }
        self.fields.clear();
    }

    /// Gives back the memory that only an unusually large head needs. The request must not be needed any more.
    pub fn shrink(&mut self) {
        let texts = [&self.method, &self.scheme, &self.authority, &self.target, &self.protocol];
        if texts.map(String::capacity).iter().sum::<usize>() + self.fields.memory() > MOST_KEPT {
            *self = Self::default();
        }
    }

    /// The target without its query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The query without its `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The authority of the target, else the `Host` field (RFC 9112 §3.2, RFC 9113 §8.3.1).
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        if !self.authority.is_empty() {
            return Some(&self.authority);
        }
        self.fields.get("host").and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Whether it is a gRPC call, by its content type.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        self.fields
            .get("content-type")
            .and_then(|value| value.strip_prefix(b"application/grpc"))
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
    }
}

impl ResponseHead {
    /// Forgets the response and keeps the memory.
    pub fn clear(&mut self) {
        self.version = Version::default();
        self.status = 0;
        self.reason.clear();
        self.fields.clear();
    }

    /// Gives back the memory that only an unusually large head needs. The response must not be needed any more.
    pub fn shrink(&mut self) {
        if self.reason.capacity() + self.fields.memory() > MOST_KEPT {
            *self = Self::default();
        }
    }

    /// Whether another head follows for the same request (RFC 9110 §15.2). 101 is final: what follows is another protocol.
    #[must_use]
    pub const fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_wins_over_the_host_field() {
        let mut head = RequestHead { target: "/a?b=c".into(), ..RequestHead::default() };
        head.fields.push(b"Host", b"from-field");
        assert_eq!((head.path(), head.query(), head.host()), ("/a", Some("b=c"), Some("from-field")));
        head.authority.push_str("from-target");
        assert_eq!(head.host(), Some("from-target"));
    }

    #[test]
    fn only_what_is_unusually_large_is_given_back() {
        let long = "x".repeat(MOST_KEPT + 1);
        let large = [
            RequestHead { method: long.clone(), ..RequestHead::default() },
            RequestHead { authority: long.clone(), ..RequestHead::default() },
            RequestHead { target: long.clone(), method: "GET".into(), ..RequestHead::default() },
            RequestHead {
                fields: [("x-long", long.as_str())].into_iter().collect(),
                ..RequestHead::default()
            },
        ];
        for mut head in large {
            head.shrink();
            assert_eq!((head.method.capacity(), head.target.capacity(), head.fields.memory()), (0, 0, 0));
        }
        let mut usual = RequestHead { target: "/a".into(), ..RequestHead::default() };
        usual.shrink();
        assert_eq!(usual.target, "/a");
        let mut response = ResponseHead { reason: vec![b'x'; MOST_KEPT + 1], ..ResponseHead::default() };
        response.shrink();
        assert_eq!(response.reason.capacity(), 0);
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for (value, is) in
            [("application/grpc", true), ("application/grpc+proto", true), ("application/grpc-web", false)]
        {
            let fields = [("Content-Type", value)].into_iter().collect();
            assert_eq!(RequestHead { fields, ..RequestHead::default() }.is_grpc(), is, "{value}");
        }
    }
}
