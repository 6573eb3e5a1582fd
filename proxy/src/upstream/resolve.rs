//! From a name to its addresses: looked up when they are needed, and again when the answer is old or did not work.
//!
//! Nothing runs while nobody asks, and who asks while a lookup runs waits for that one.

use std::{cell::RefCell, io, net::SocketAddr, rc::Rc, time::Duration};

use futures_util::{
    FutureExt as _,
    future::{LocalBoxFuture, Shared},
};
use svidecar_process::clock;
use tokio::time::Instant;

/// How long an answer is used without asking again. `getaddrinfo(3)` does not tell the record's own TTL.
const FRESH: Duration = Duration::from_secs(10);

/// A lookup that takes longer is a failure.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Addresses that are kept of one answer.
const MAX_ADDRESSES: usize = 64;

/// Looks up one host and port.
pub struct Resolver {
    host: String,
    port: u16,
    answer: RefCell<Option<Answer>>,
    lookup: RefCell<Option<Lookup>>,
}

struct Answer {
    at: Instant,
    addresses: Addresses,
}

/// The addresses of one answer, never none.
pub type Addresses = Rc<[SocketAddr]>;

/// A lookup that runs, for all who wait for it. It stands still while nobody does.
struct Lookup {
    since: Instant,
    found: Shared<LocalBoxFuture<'static, Result<Addresses, Unresolved>>>,
}

/// Why a name has no address.
#[derive(Clone, Debug, thiserror::Error)]
#[error("its name cannot be resolved: {0}")]
pub struct Unresolved(Rc<io::Error>);

impl Resolver {
    /// For a name that has to be looked up.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, answer: RefCell::default(), lookup: RefCell::default() }
    }

    /// The addresses to dial. When the name servers fail, the last answer goes on to be used.
    ///
    /// # Errors
    /// The lookup's, if there was never an answer.
    pub async fn addresses(&self) -> Result<Addresses, Unresolved> {
        if let Some(addresses) = self.answer(|answer| clock::timer() - answer.at < FRESH) {
            return Ok(addresses);
        }
        let lookup = self.lookup();
        let found = lookup.clone().await;
        // The first who comes back makes it the answer.
        let is_mine = |running: &mut Lookup| running.found.ptr_eq(&lookup);
        if self.lookup.borrow_mut().take_if(is_mine).is_some()
            && let Ok(addresses) = &found
        {
            self.answer.replace(Some(Answer { at: clock::timer(), addresses: Rc::clone(addresses) }));
        }
        found.or_else(|failure| self.answer(|_| true).ok_or(failure))
    }

    /// The answer did not work: ask again next time. It stays as a fallback.
    pub fn doubt(&self) {
        if let Some(answer) = &mut *self.answer.borrow_mut()
            && let Some(old) = clock::timer().checked_sub(FRESH)
        {
            answer.at = old;
        }
    }

    fn answer(&self, usable: impl FnOnce(&Answer) -> bool) -> Option<Addresses> {
        let answer = self.answer.borrow();
        answer.as_ref().filter(|answer| usable(answer)).map(|answer| Rc::clone(&answer.addresses))
    }

    /// The lookup that runs, or a new one. What those who asked for the last one gave up long ago is of no use any more.
    fn lookup(&self) -> Shared<LocalBoxFuture<'static, Result<Addresses, Unresolved>>> {
        let mut running = self.lookup.borrow_mut();
        let recent = running.take().filter(|lookup| clock::timer() - lookup.since < LOOKUP_TIMEOUT);
        let lookup = recent.unwrap_or_else(|| Lookup {
            since: clock::timer(),
            found: look_up(self.host.clone(), self.port).boxed_local().shared(),
        });
        running.insert(lookup).found.clone()
    }
}

async fn look_up(host: String, port: u16) -> Result<Addresses, Unresolved> {
    let lookup = tokio::net::lookup_host((host.as_str(), port));
    let failure = match tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await {
        Ok(Ok(found)) => {
            let addresses: Addresses = found.take(MAX_ADDRESSES).collect();
            if !addresses.is_empty() {
                return Ok(addresses);
            }
            io::Error::new(io::ErrorKind::NotFound, "the name has no address")
        }
        Ok(Err(error)) => error,
        Err(_) => io::Error::new(io::ErrorKind::TimedOut, "the lookup took too long"),
    };
    Err(Unresolved(Rc::new(failure)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_answer_outlives_the_name_servers() {
        let resolver = Resolver::new("name.invalid", 1);
        assert!(resolver.addresses().await.is_err());
        let known: Addresses = Rc::new(["127.0.0.1:1".parse().unwrap()]);
        resolver.answer.replace(Some(Answer { at: clock::timer(), addresses: Rc::clone(&known) }));
        resolver.doubt();
        assert_eq!(resolver.addresses().await.unwrap(), known);
    }

    #[tokio::test]
    async fn those_who_ask_at_the_same_time_get_one_answer() {
        let resolver = Resolver::new("localhost", 1);
        let (one, other) = tokio::join!(resolver.addresses(), resolver.addresses());
        assert!(Rc::ptr_eq(&one.unwrap(), &other.unwrap()));
        assert!(resolver.lookup.borrow().is_none());
    }

    #[tokio::test]
    async fn a_lookup_that_was_given_up_is_not_taken_for_a_new_one() {
        let resolver = Resolver::new("localhost", 1);
        let long_ago = clock::timer().checked_sub(LOOKUP_TIMEOUT).unwrap();
        let (given_up, recent) = (resolver.lookup(), resolver.lookup());
        assert!(given_up.ptr_eq(&recent));
        resolver.lookup.borrow_mut().as_mut().unwrap().since = long_ago;
        assert!(!given_up.ptr_eq(&resolver.lookup()));
    }
}
