//! A stream of full-state messages to one workload.
//!
//! Owns when a message is sent: the first as soon as it is complete, later ones when they differ from the
//! one before, none otherwise. It must never send a part of a state.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;
use svidecar_process::{clock, shares::Share};
use tokio::{sync::watch, time::Instant};
use tonic::Status;

use crate::cache::Update;

/// Longest wait for an SVID that is being signed, before the workload is told to try again.
const FIRST_SVID: Duration = Duration::from_secs(10);

/// What tonic wants of a stream.
pub type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What a state means for a stream.
pub enum Next<T> {
    /// The full message. It may be sent.
    Full(Arc<T>),
    /// There will be a message soon; until the given time it is worth waiting for.
    Soon(Status),
    /// The workload may have nothing.
    Denied(Status),
}

/// Resolves when a stream has to end, with what its workload is told.
pub type End = Pin<Box<dyn Future<Output = Status> + Send>>;

/// A place among the streams that wait for a first entry; by the user who waits.
pub type Place = Share<u32>;

struct Follower<T> {
    updates: watch::Receiver<Arc<Update>>,
    read: fn(&Update) -> Next<T>,
    last: Option<Arc<T>>,
    /// Since there is something that will be sent soon.
    give_up: Option<Instant>,
    /// As long as it waits for something that may be sent.
    place: Option<Place>,
    end: End,
}

/// Streams what `read` makes of each state, until `end`. With a `place` it waits for the first state that the workload may
/// have, where it would else be denied.
pub fn follow<T>(
    updates: watch::Receiver<Arc<Update>>,
    read: fn(&Update) -> Next<T>,
    end: End,
    place: Option<Place>,
) -> Messages<T>
where
    T: Clone + PartialEq + Send + Sync + 'static,
{
    let follower = Follower { updates, read, last: None, give_up: None, place, end };
    Box::pin(futures_util::stream::try_unfold(follower, |mut follower| async move {
        let message = follower.next().await?;
        Ok(Some((T::clone(&message), follower)))
    }))
}

impl<T: PartialEq> Follower<T> {
    async fn next(&mut self) -> Result<Arc<T>, Status> {
        loop {
            let next = (self.read)(&self.updates.borrow_and_update());
            let mut overdue = None;
            match next {
                Next::Full(message) => {
                    if self.last.as_ref() != Some(&message) {
                        self.last = Some(Arc::clone(&message));
                        self.place = None;
                        return Ok(message);
                    }
                }
                Next::Denied(_) if self.place.is_some() => self.give_up = None,
                Next::Denied(status) => return Err(status),
                Next::Soon(status) if self.last.is_none() => {
                    let now = clock::timer();
                    let give_up = *self.give_up.get_or_insert(now + FIRST_SVID);
                    if now >= give_up {
                        return Err(status);
                    }
                    overdue = Some(give_up);
                }
                // The message that the workload has stays right until there is another.
                Next::Soon(_) => {}
            }
            let overdue = async {
                match overdue {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                status = &mut self.end => return Err(status),
                () = overdue => {}
                changed = self.updates.changed() => {
                    // The cache outlives its subscribers.
                    changed.map_err(|_| Status::unavailable("the agent is shutting down"))?;
                }
            }
        }
    }
}
