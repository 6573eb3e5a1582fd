//! Whether what failed is tried once more, and how often. Pure: decides by what is known of the failure.
//!
//! Never sends anything, and never waits.

use super::channel::NoResponse;
use crate::message::RequestHead;

/// Endpoints of the settings that are asked for one connection.
pub const MOST_NAMES: usize = 3;

/// How often one request goes out.
const MOST_SENDS: usize = 2;

/// A request that went out and got no response.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'r> {
    /// How often it went out.
    pub times: usize,
    /// Whether its connection had carried another one before: then it may have died meanwhile, and nobody noticed.
    pub is_reused: bool,
    /// What became of its body.
    pub body: SentBody,
    /// Its head.
    pub head: &'r RequestHead,
}

/// What became of the body of a request that got no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentBody {
    /// There is no byte in it.
    Empty,
    /// All of it still waits.
    Untouched,
    /// Some of it is gone.
    Begun,
}

/// Whether it goes out once more, on another connection: when the other side never looked at it; or when it may be repeated,
/// and its connection was open already.
#[must_use]
pub fn goes_out_again(sent: &Sent<'_>, why: &NoResponse) -> bool {
    sent.times < MOST_SENDS
        && match why {
            NoResponse::NotTaken(_) => sent.body != SentBody::Begun,
            NoResponse::Closed | NoResponse::Reset(_) | NoResponse::Failed(_) => {
                sent.is_reused && sent.body == SentBody::Empty && is_repeatable(sent.head)
            }
            NoResponse::NotHttp(_) => false,
        }
}

/// Whether the method only asks, or leaves the same state however often it is done (RFC 9110 §9.2.2).
fn is_repeatable(head: &RequestHead) -> bool {
    matches!(head.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" | "TRACE")
        && !head.fields.contains("upgrade")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::ErrorCode;

    fn head(method: &str) -> RequestHead {
        RequestHead { method: method.to_owned(), ..RequestHead::default() }
    }

    fn closed() -> NoResponse {
        NoResponse::Closed
    }

    fn not_taken() -> NoResponse {
        NoResponse::NotTaken(String::new())
    }

    #[test]
    fn what_died_unnoticed_costs_no_request_that_may_be_repeated() {
        let get = head("GET");
        let sent = Sent { times: 1, is_reused: true, body: SentBody::Empty, head: &get };
        for why in [closed(), NoResponse::Reset(ErrorCode::CANCEL), NoResponse::Failed(String::new())] {
            assert!(goes_out_again(&sent, &why), "{why}");
            assert!(!goes_out_again(&Sent { is_reused: false, ..sent }, &why), "{why}: it was new");
            assert!(!goes_out_again(&Sent { body: SentBody::Untouched, ..sent }, &why), "{why}: a body");
            assert!(!goes_out_again(&Sent { times: 2, ..sent }, &why), "{why}: twice");
        }
        assert!(!goes_out_again(&sent, &NoResponse::NotHttp(String::new())));
    }

    #[test]
    fn what_nobody_looked_at_goes_out_again_whatever_it_asks() {
        let post = head("POST");
        let sent = Sent { times: 1, is_reused: false, body: SentBody::Untouched, head: &post };
        assert!(goes_out_again(&sent, &not_taken()));
        assert!(goes_out_again(&Sent { body: SentBody::Empty, ..sent }, &not_taken()));
        assert!(!goes_out_again(&Sent { body: SentBody::Begun, ..sent }, &not_taken()), "it is gone");
        assert!(!goes_out_again(&Sent { times: 2, ..sent }, &not_taken()), "twice");
    }

    #[test]
    fn methods_that_change_something_each_time_are_not_repeated() {
        let goes = |head: &RequestHead| {
            goes_out_again(&Sent { times: 1, is_reused: true, body: SentBody::Empty, head }, &closed())
        };
        for (method, repeats) in [("HEAD", true), ("PUT", true), ("POST", false), ("PATCH", false)] {
            assert_eq!(goes(&head(method)), repeats, "{method}");
        }
        let mut upgrade = head("GET");
        upgrade.fields.push(b"upgrade", b"websocket");
        assert!(!goes(&upgrade));
    }
}
