//! HTTP/2: whole connections, and heads through two of them.

use std::task::{Context, Waker};

use svidecar::{
    http2::{ErrorCode, Role, Session, Settings},
    message::{BodySink, BodySource, Fields, Part, RequestHead, ResponseHead, Version},
};

use super::script::Script;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whatever frames a peer sends, in whatever pieces: the connection goes on or ends with an error, answers a bounded
/// number of bytes for what it got, and every request that comes out of it is one.
pub fn frames(data: &[u8]) {
    let Some(([role, pieces @ ..], bytes)) = data.split_first_chunk::<4>() else { return };
    if role % 2 == 0 {
        let mut script = Script::new(PREFACE.to_vec(), pieces);
        script.extend(bytes);
        serve(script, bytes.len());
    } else {
        call(Script::new(bytes.to_vec(), pieces));
    }
}

/// As the server: every request is answered, its body read.
fn serve(mut script: Script, size: usize) {
    let session = Session::new(Role::Server, &Settings::default());
    let mut cx = Context::from_waker(Waker::noop());
    let mut streams = Vec::new();
    for _ in 0..2 * size + 8 {
        let over = session.poll_drive(&mut cx, &mut script).is_ready();
        while let Some((head, mut stream)) = session.accept() {
            assert!(!head.method.is_empty());
            assert!(head.fields.iter().all(|(name, _)| !name.iter().any(u8::is_ascii_uppercase)));
            for never in ["transfer-encoding", "connection", "keep-alive", "upgrade", "proxy-connection"] {
                assert!(!head.fields.contains(never), "{never}");
            }
            stream.send_response_head(&ResponseHead { status: 200, ..ResponseHead::default() }, false);
            session.recycle(head);
            streams.push(stream);
        }
        streams.retain_mut(|stream| {
            let mut read = 0;
            while let std::task::Poll::Ready(part) = stream.poll_part(&mut cx) {
                match part {
                    Ok(Part::Data { .. }) => {
                        let count = stream.data().len();
                        assert!(count > 0);
                        read += count;
                        assert!(read <= size);
                        stream.consume(count);
                        let _ = stream.poll_data(&mut cx, b"data", None);
                    }
                    Ok(Part::Trailers) => {}
                    Ok(Part::End) => {
                        let _ = stream.end(None);
                        return false;
                    }
                    Err(_) => return false,
                }
            }
            true
        });
        if over {
            break;
        }
    }
    // The first settings, and for each of the peer's frames at most a small answer.
    assert!(script.output.len() <= 1024 + 64 * size, "{} bytes for {size}", script.output.len());
}

/// As the client: a request with a body is under way while the bytes come.
fn call(mut script: Script) {
    let session = Session::new(Role::Client, &Settings::default());
    let mut cx = Context::from_waker(Waker::noop());
    let head = RequestHead {
        version: Version::Http2,
        method: "POST".into(),
        scheme: "https".into(),
        authority: "host".into(),
        target: "/".into(),
        ..RequestHead::default()
    };
    let Ok(mut stream) = session.open(&head, false) else { return };
    let _ = stream.poll_data(&mut cx, b"data", None);
    let mut answer = ResponseHead::default();
    let mut has_head = false;
    for _ in 0..64 {
        let over = session.poll_drive(&mut cx, &mut script).is_ready();
        if !has_head {
            has_head = match stream.poll_response_head(&mut cx, &mut answer) {
                std::task::Poll::Ready(Ok(())) => {
                    assert!((100..1000).contains(&answer.status));
                    !answer.is_interim()
                }
                _ => false,
            };
        } else if let std::task::Poll::Ready(Ok(Part::Data { .. })) = stream.poll_part(&mut cx) {
            let count = stream.data().len();
            stream.consume(count);
        }
        if over {
            return;
        }
    }
    stream.reset(ErrorCode(8));
}

/// Any fields go through two connections unchanged, however often they repeat. The bytes are the script: each field is a
/// length of its name, a length of its value and both.
pub fn hpack(data: &[u8]) {
    let mut cx = Context::from_waker(Waker::noop());
    let client = Session::new(Role::Client, &Settings::default());
    let server = Session::new(Role::Server, &Settings::default());
    let (mut to_server, mut to_client) = (Script::new(Vec::new(), &[]), Script::new(Vec::new(), &[]));
    (to_server.stays, to_client.stays) = (true, true);
    let mut rest = data;
    while let Some(fields) = take_fields(&mut rest) {
        let head = RequestHead {
            version: Version::Http2,
            method: "GET".into(),
            scheme: "https".into(),
            authority: "host".into(),
            target: "/".into(),
            fields,
            ..RequestHead::default()
        };
        // The server's script is what the client wrote, and the other way round.
        let Ok(mut stream) = client.open(&head, true) else { return };
        assert!(client.poll_drive(&mut cx, &mut to_client).is_pending());
        to_server.extend(&std::mem::take(&mut to_client.output));
        assert!(server.poll_drive(&mut cx, &mut to_server).is_pending());
        let (came, mut answer) = server.accept().expect("a request that was sent comes");
        assert_eq!(came, head);
        let response =
            ResponseHead { version: Version::Http2, status: 200, reason: Vec::new(), fields: head.fields };
        answer.send_response_head(&response, true);
        assert!(server.poll_drive(&mut cx, &mut to_server).is_pending());
        to_client.extend(&std::mem::take(&mut to_server.output));
        assert!(client.poll_drive(&mut cx, &mut to_client).is_pending());
        let mut came = ResponseHead::default();
        assert!(matches!(stream.poll_response_head(&mut cx, &mut came), std::task::Poll::Ready(Ok(()))));
        assert_eq!(came, response);
    }
}

/// Up to seven fields with names and values that HTTP/2 allows; `None` at the end.
fn take_fields(rest: &mut &[u8]) -> Option<Fields> {
    let (&count, after) = rest.split_first()?;
    *rest = after;
    let mut fields = Fields::new();
    for _ in 0..count % 8 {
        let (&[name, value], after) = rest.split_first_chunk::<2>()?;
        let (name, after) = after.split_at_checked(usize::from(name % 32) + 1)?;
        let (value, after) = after.split_at_checked(usize::from(value))?;
        *rest = after;
        // An `x` before it: a name that means nothing. A `v` around: no space at the ends.
        let name: Vec<u8> = [b'x'].into_iter().chain(name.iter().map(|byte| b'a' + byte % 26)).collect();
        let value = value.iter().map(|byte| if byte.is_ascii_control() { b'c' } else { *byte });
        let value: Vec<u8> = [b'v'].into_iter().chain(value).chain([b'v']).collect();
        fields.push(&name, &value);
    }
    Some(fields)
}
