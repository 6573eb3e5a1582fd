//! Before every call: whether its caller may spend that much.
//!
//! Owns taking a call's shares and giving them back: when the request is whole, and when the answer has ended. A request that
//! does not come whole in time ends.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use svidecar_process::{shares::Share, source::Source};
use tokio::time::{Sleep, sleep};
use tonic::{Status, body::Body, codegen::Service};
use tower::Layer;

use super::quota::{PATIENCE, Session};

/// See the module. It takes the [`Session`] that the connection left in the request, and leaves the caller.
#[derive(Clone, Copy)]
pub struct GateLayer;

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated(inner)
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub struct Gated<S>(S);

impl<S> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let session = request.extensions().get::<Arc<Session>>().cloned();
        let admitted = match session {
            Some(session) => {
                request.extensions_mut().insert(session.caller());
                session.call()
            }
            None => Err(Status::internal("a connection without a session")),
        };
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(status) => return Box::pin(std::future::ready(Ok(status.into_http()))),
        };
        let (call, receiving) = (admitted.call, admitted.receiving);
        let answer = self.0.call(request.map(|body| Body::new(Request::new(body, receiving))));
        Box::pin(async move { Ok(answer.await?.map(|body| Body::new(Answer { body, _call: call }))) })
    }
}

/// A request on its way.
struct Request {
    body: Body,
    /// None when it is whole.
    receiving: Option<(Share<Source>, Pin<Box<Sleep>>)>,
}

impl Request {
    fn new(body: Body, share: Share<Source>) -> Self {
        let receiving = (!body.is_end_stream()).then(|| (share, Box::pin(sleep(PATIENCE))));
        Self { body, receiving }
    }
}

impl HttpBody for Request {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Some((_, deadline)) = &mut this.receiving
            && deadline.as_mut().poll(context).is_ready()
        {
            this.receiving = None;
            let late = format!("the request did not come whole within {} s", PATIENCE.as_secs());
            return Poll::Ready(Some(Err(Status::deadline_exceeded(late))));
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if this.body.is_end_stream() || !matches!(frame, Some(Ok(_))) {
            this.receiving = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer, during which the call is open.
struct Answer {
    body: Body,
    _call: Share<Source>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use svidecar_process::shares::Shares;

    use super::*;

    /// A body of which nothing comes.
    struct Never;

    impl HttpBody for Never {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_come_whole_ends_and_gives_its_share_back() {
        let shares = Shares::new(8);
        let share = shares.take(Source::User(1), 1).unwrap();
        let mut request = Request::new(Body::new(Never), share);
        assert_eq!(shares.taken(), 1);
        let frame = poll_fn(|context| Pin::new(&mut request).poll_frame(context)).await;
        assert_eq!(frame.unwrap().unwrap_err().code(), tonic::Code::DeadlineExceeded);
        assert_eq!(shares.taken(), 0);
    }

    #[tokio::test]
    async fn a_whole_request_has_no_share() {
        let shares = Shares::new(8);
        let share = shares.take(Source::User(1), 1).unwrap();
        let request = Request::new(Body::empty(), share);
        assert!(request.is_end_stream());
        assert_eq!(shares.taken(), 0);
    }
}
