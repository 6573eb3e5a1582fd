//! How long a request may take: until the head of its response comes, and as a whole.
//!
//! Owns the moments; what becomes of a request that misses one is its caller's.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use svidecar_code::Code;
use svidecar_process::clock;
use tokio::time::Instant;

use super::rules::Timeouts;
use crate::{
    message::refusal::Refusal,
    runtime::{connections::Timer, worker::Worker},
};

/// The moments of one request after the other. Holds nothing as long as none has any.
#[derive(Default)]
pub struct Deadlines(Option<Box<Moments>>);

struct Moments {
    timer: Timer,
    /// For the head of the response, once all of the request was handed on.
    response: Option<Duration>,
    /// By when it must be there.
    head_by: Option<Instant>,
    request: Option<Duration>,
    end_by: Option<Instant>,
}

impl Deadlines {
    /// A request begins.
    pub fn begin(&mut self, worker: &Worker, timeouts: &Timeouts) {
        if timeouts.request.is_none() && timeouts.response.is_none() {
            return self.end();
        }
        let moments = self.0.get_or_insert_with(|| Box::new(Moments::new(worker)));
        (moments.response, moments.request, moments.head_by) = (None, timeouts.request, None);
        moments.end_by = timeouts.request.and_then(|request| clock::timer().checked_add(request));
        if moments.end_by.is_some() {
            moments.set();
        }
    }

    /// It may pass; `is_patient` if its response may take its time to begin, as that to a call of gRPC.
    pub const fn pass(&mut self, timeouts: &Timeouts, is_patient: bool) {
        if let Some(moments) = &mut self.0 {
            moments.response = if is_patient { timeouts.late_response } else { timeouts.response };
        }
    }

    /// From now on the head of the response is what is waited for, or the next one, when an interim one has come.
    pub fn expect_response(&mut self, anew: bool) {
        if let Some(moments) = &mut self.0
            && let Some(response) = moments.response
            && (anew || moments.head_by.is_none())
        {
            moments.head_by = clock::timer().checked_add(response);
            moments.set();
        }
    }

    /// The head of the response is there.
    pub fn answered(&mut self) {
        if let Some(moments) = &mut self.0
            && moments.head_by.take().is_some()
        {
            moments.set();
        }
    }

    /// The request is over.
    pub fn end(&mut self) {
        if let Some(moments) = &mut self.0 {
            (moments.head_by, moments.end_by) = (None, None);
            moments.set();
        }
    }

    /// Ready when one has passed, with what to answer.
    pub fn poll_missed(&self, cx: &Context<'_>) -> Poll<Refusal> {
        let Some(moments) = &self.0 else { return Poll::Pending };
        moments.timer.poll(cx).map(|()| moments.refusal())
    }
}

impl Moments {
    fn new(worker: &Worker) -> Self {
        Self { timer: worker.timer(), response: None, head_by: None, request: None, end_by: None }
    }

    fn set(&mut self) {
        self.timer.set(self.head_by.into_iter().chain(self.end_by).min());
    }

    fn refusal(&self) -> Refusal {
        let is_head = self.head_by.is_some_and(|head| self.end_by.is_none_or(|end| head <= end));
        if is_head {
            let within = self.response.unwrap_or_default();
            let detail = format!(
                "the upstream has the whole request and did not begin its response within {within:?} \
                 (timeouts.response_headers)"
            );
            return Refusal::new(Code::UpstreamResponseTimeout, detail);
        }
        let within = self.request.unwrap_or_default();
        let detail = format!("the request took longer than {within:?} (timeouts.request)");
        Refusal::new(Code::DeadlineExceeded, detail).closing()
    }
}
