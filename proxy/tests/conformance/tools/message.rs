//! HTTP/1 messages as they are on the wire (RFC 9112), read strictly: what a sloppy server would guess is an error here.

use std::fmt;

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The sender closed before the end of the message; how much of it there was.
    Cut(String),
    /// The connection was reset.
    Reset,
    /// Against the grammar.
    Malformed(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(what) => write!(f, "cut in {what}"),
            Self::Reset => f.write_str("reset"),
            Self::Malformed(what) => write!(f, "malformed: {what}"),
        }
    }
}

/// Refuses what breaks the grammar.
pub fn malformed<T>(what: impl Into<String>) -> Result<T, Broken> {
    Err(Broken::Malformed(what.into()))
}

/// Name and value of each field, in order, in the case of the wire.
pub type Fields = Vec<(String, String)>;

/// A start line and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Without its CRLF.
    pub line: String,
    pub fields: Fields,
}

impl Head {
    /// Reads a head that ends in an empty line.
    pub fn parse(raw: &[u8]) -> Result<Self, Broken> {
        let (line, rest) = split_line(raw)?;
        let head = Self { line: line.to_owned(), fields: parse_fields(rest)? };
        if line.starts_with("HTTP/1.") {
            let status = line.get(9..12).and_then(|status| status.parse::<u16>().ok());
            if !line.is_char_boundary(8) || status.is_none() {
                return malformed(format!("status line `{line}`"));
            }
        } else if line.split(' ').count() != 3 || !line.ends_with(" HTTP/1.1") && !line.ends_with(" HTTP/1.0")
        {
            return malformed(format!("request line `{line}`"));
        }
        Ok(head)
    }

    /// The values of all fields of this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of the only field of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        match self.all(name)[..] {
            [] => None,
            [value] => Some(value),
            ref several => panic!("{name} {} times: {several:?}", several.len()),
        }
    }

    /// Of a request.
    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap()
    }

    /// Of a request.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }

    /// Of a response.
    pub fn status(&self) -> u16 {
        self.line.get(9..12).unwrap().parse().unwrap()
    }

    /// How the body of this request ends (RFC 9112 §6.3).
    pub fn request_framing(&self) -> Result<Framing, Broken> {
        Ok(self.framing()?.unwrap_or(Framing::None))
    }

    /// How the body of this response to a request of `method` ends (RFC 9112 §6.3).
    pub fn response_framing(&self, method: &str) -> Result<Framing, Broken> {
        let framing = self.framing()?;
        let status = self.status();
        let bodiless = method == "HEAD" || status < 200 || matches!(status, 204 | 304);
        if (status < 200 || status == 204) && framing.is_some() {
            return malformed(format!(
                "a framing in a {status}: {:?} (RFC 9110 §8.6, RFC 9112 §6.1)",
                self.fields
            ));
        }
        Ok(if bodiless { Framing::None } else { framing.unwrap_or(Framing::UntilClose) })
    }

    fn framing(&self) -> Result<Option<Framing>, Broken> {
        match (&self.all("transfer-encoding")[..], &self.all("content-length")[..]) {
            ([], []) => Ok(None),
            ([coding], []) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked)),
            ([], [length]) if !length.is_empty() && length.bytes().all(|digit| digit.is_ascii_digit()) => {
                length
                    .parse()
                    .map(|length| Some(Framing::Length(length)))
                    .or_else(|_| malformed("Content-Length"))
            }
            (codings, lengths) => malformed(format!("framed by {codings:?} and {lengths:?}")),
        }
    }
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// A body as it was framed.
#[derive(Clone, PartialEq, Eq)]
pub struct Body {
    pub framing: Framing,
    pub bytes: Vec<u8>,
    /// The size of each chunk but the last.
    pub chunks: Vec<usize>,
    pub trailers: Fields,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { framing, bytes, chunks, trailers } = self;
        let start = String::from_utf8_lossy(bytes.get(..200).unwrap_or(bytes));
        write!(f, "{} bytes {start:?} {framing:?} {chunks:?} {trailers:?}", bytes.len())
    }
}

impl Body {
    pub const fn empty(framing: Framing) -> Self {
        Self { framing, bytes: Vec::new(), chunks: Vec::new(), trailers: Vec::new() }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub head: Head,
    pub body: Body,
}

/// Fields up to the empty line, which must be the last one.
pub fn parse_fields(mut raw: &[u8]) -> Result<Fields, Broken> {
    let mut fields = Vec::new();
    loop {
        let (line, rest) = split_line(raw)?;
        raw = rest;
        if line.is_empty() {
            return if raw.is_empty() { Ok(fields) } else { malformed("bytes after the empty line") };
        }
        let Some((name, value)) = line.split_once(':') else {
            return malformed(format!("field line `{line}`"));
        };
        if name.is_empty() || !name.bytes().all(is_token) {
            return malformed(format!("field name in `{line}`"));
        }
        fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
}

/// A line without its CRLF, and what follows. Bytes above ASCII are read as Latin-1.
fn split_line(raw: &[u8]) -> Result<(String, &[u8]), Broken> {
    let end = raw.windows(2).position(|pair| pair == b"\r\n");
    let Some(end) = end else { return malformed("a line without CRLF") };
    let (line, rest) = (&raw[..end], &raw[end + 2..]);
    if let Some(control) = line.iter().find(|byte| byte.is_ascii_control() && **byte != b'\t') {
        return malformed(format!("the byte {control:#04x} in `{}`", String::from_utf8_lossy(line)));
    }
    Ok((line.iter().map(|byte| char::from(*byte)).collect(), rest))
}

/// RFC 9110 §5.6.2.
pub const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}
