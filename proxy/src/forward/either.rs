//! A connection of HTTP whose version only its first bytes tell: HTTP/2 by prior knowledge begins with a preface that no
//! request of HTTP/1 begins with (RFC 9113 §3.3).

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Poll, ready},
};

use svidecar_process::clock;

use super::{
    caller::Caller,
    http1,
    http2::{self, Spare},
};
use crate::{
    admit::limit,
    http2::{PREFACE, Session},
    io::{Buffer, ByteStream, Transport},
    message::RequestHead,
    runtime::connections::Follower,
};

/// Most bytes to be read before they are looked at.
const FIRST_READ: usize = 16 * 1024;

/// Serves requests until the connection ends.
pub async fn serve(caller: Rc<Caller>, mut stream: Transport) {
    let (mut read, mut follower) = (Buffer::new(), caller.follower());
    let Some(is_http2) = speaks_http2(&caller, &mut stream, &mut read, &mut follower).await else { return };
    if !is_http2 {
        return http1::resume(caller, (stream, read), follower).await;
    }
    let rules = caller.rules();
    let limits = rules.listener.limits();
    let (settings, streams) = (limit::http2(limits), limit::streams(limits, false));
    drop(rules);
    let spare = Rc::<Spare>::default();
    let accept = |session: &Session, head: RequestHead, stream| {
        let (this, spare) = (Rc::clone(&caller), Rc::clone(&spare));
        caller.worker().spawn(http2::request(this, session.clone(), spare, head, stream));
    };
    http2::serve(Rc::clone(&caller), (&settings, streams), stream, read, follower, accept).await;
}

/// Reads until it is clear what the client speaks. `None` when it goes before.
async fn speaks_http2(
    caller: &Caller,
    stream: &mut Transport,
    read: &mut Buffer,
    follower: &mut Follower,
) -> Option<bool> {
    follower.set_timer(clock::timer().checked_add(caller.rules().listener.timeouts().idle));
    let told = poll_fn(|cx| {
        loop {
            let bytes = read.filled();
            let is_preface = bytes.iter().zip(PREFACE).all(|(byte, expected)| byte == expected);
            if !is_preface || bytes.len() >= PREFACE.len() {
                return Poll::Ready(Some(is_preface));
            }
            let filled = stream.poll_fill(cx, read, FIRST_READ);
            if filled.is_pending() {
                let over = follower.poll_over(cx, |event| caller.judge(event, None));
                // Whoever is inside of a shared connection was told by that.
                let is_unused = read.is_empty() && !matches!(stream, Transport::Tunnel(_));
                if over.is_ready() || (is_unused && follower.is_finishing()) {
                    return Poll::Ready(None);
                }
            }
            match ready!(filled) {
                Ok(count) if count > 0 => {}
                _ => return Poll::Ready(None),
            }
        }
    })
    .await;
    follower.set_timer(None);
    told
}
