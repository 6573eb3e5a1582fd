//! As little HTTP/2 as a call needs (RFC 9113, RFC 7541), so that a test decides when which byte is written.

/// The acknowledgement of the server's settings.
pub const SETTINGS_ACK: &[u8] = &[0, 0, 0, 4, 1, 0, 0, 0, 0];

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(content.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(content);
    frame
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(text.len()).unwrap()];
    bytes.extend(text.as_bytes());
    bytes
}

fn head(method: &str, stream: u32) -> Vec<u8> {
    // `:method: POST` and `:scheme: http`, then `:authority` and `:path` by their names' indices; the others written out.
    let mut block = vec![0x83, 0x86, 0x01];
    block.extend(string("localhost"));
    block.push(0x04);
    block.extend(string(&format!("/SpiffeWorkloadAPI/{method}")));
    for (name, value) in
        [("content-type", "application/grpc"), ("te", "trailers"), ("workload.spiffe.io", "true")]
    {
        block.push(0);
        block.extend(string(name));
        block.extend(string(value));
    }
    frame(HEADERS, END_HEADERS, stream, &block)
}

/// What a connection begins with.
pub fn preface() -> Vec<u8> {
    [PREFACE, SETTINGS].concat()
}

/// The head of a call on `stream`, and a message of so many bytes of which not one comes.
pub fn unfinished(method: &str, stream: u32, length: u32) -> Vec<u8> {
    let mut bytes = head(method, stream);
    let mut prefix = vec![0];
    prefix.extend(length.to_be_bytes());
    bytes.extend(frame(DATA, 0, stream, &prefix));
    bytes
}

/// A connection's beginning with a call of `method`, whose message is empty.
pub fn call(method: &str) -> Vec<u8> {
    [preface(), head(method, 1), frame(DATA, END_STREAM, 1, &[0; 5])].concat()
}

/// How many SPIFFE IDs are named in an answer; certificates name them too.
pub fn ids(answer: &[u8]) -> usize {
    answer.windows(9).filter(|bytes| bytes == b"spiffe://").count()
}

/// Calls `look` with kind, flags, stream and content of each frame that has come whole.
fn frames<'a>(mut bytes: &'a [u8], mut look: impl FnMut(u8, u8, u32, &'a [u8])) {
    while let [a, b, c, kind, flags, s1, s2, s3, s4, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some(content) = rest.get(..length) else { return };
        look(*kind, *flags, u32::from_be_bytes([*s1, *s2, *s3, *s4]), content);
        bytes = &rest[length..];
    }
}

/// Whether the first message of an answer has come whole.
pub fn has_message(answer: &[u8]) -> bool {
    let mut data = Vec::new();
    frames(answer, |kind, _, _, content| {
        if kind == DATA {
            data.extend(content);
        }
    });
    let [_, a, b, c, d, message @ ..] = data.as_slice() else { return false };
    message.len() >= u32::from_be_bytes([*a, *b, *c, *d]) as usize
}

/// Whether the server has ended a call, or the connection.
pub fn call_ended(answer: &[u8]) -> bool {
    ended_calls(answer) > 0
}

/// How many calls the server has ended; the end of the connection counts as one.
pub fn ended_calls(answer: &[u8]) -> usize {
    const RESET: u8 = 3;
    const GOAWAY: u8 = 7;
    let mut ended = std::collections::HashSet::new();
    frames(answer, |kind, flags, stream, _| {
        if matches!(kind, RESET | GOAWAY) || (kind == HEADERS && flags & END_STREAM != 0) {
            ended.insert(stream);
        }
    });
    ended.len()
}
