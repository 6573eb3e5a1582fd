//! From a target to the addresses to dial: names are looked up when they are needed, and again when the answer is
//! old or did not work. Nothing runs while nobody asks.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Mutex,
    time::Duration,
};

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
    literal: Option<IpAddr>,
    answer: Mutex<Option<Answer>>,
}

struct Answer {
    at: Instant,
    addresses: Vec<SocketAddr>,
}

impl Resolver {
    /// For a DNS name or an IP address.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, literal: host.parse().ok(), answer: Mutex::new(None) }
    }

    /// The addresses to dial, never none. When the name servers fail, the last answer goes on to be used.
    ///
    /// # Errors
    /// The lookup's, if there was never an answer.
    pub async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        if let Some(ip) = self.literal {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        if let Some(addresses) = self.answer(|answer| answer.at.elapsed() < FRESH) {
            return Ok(addresses);
        }
        let lookup = tokio::net::lookup_host((self.host.as_str(), self.port));
        let failure = match tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await {
            Ok(Ok(found)) => {
                let addresses: Vec<_> = found.take(MAX_ADDRESSES).collect();
                if !addresses.is_empty() {
                    self.store(Some(Answer { at: Instant::now(), addresses: addresses.clone() }));
                    return Ok(addresses);
                }
                io::Error::new(io::ErrorKind::NotFound, "the name has no address")
            }
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(io::ErrorKind::TimedOut, "the lookup took too long"),
        };
        self.answer(|_| true).ok_or(failure)
    }

    /// The answer did not work: ask again next time. It stays as a fallback.
    pub fn doubt(&self) {
        if let Ok(mut answer) = self.answer.lock()
            && let Some(answer) = answer.as_mut()
            && let Some(old) = Instant::now().checked_sub(FRESH)
        {
            answer.at = old;
        }
    }

    fn answer(&self, usable: impl FnOnce(&Answer) -> bool) -> Option<Vec<SocketAddr>> {
        let answer = self.answer.lock().ok()?;
        answer.as_ref().filter(|answer| usable(answer)).map(|answer| answer.addresses.clone())
    }

    fn store(&self, answer: Option<Answer>) {
        if let Ok(mut slot) = self.answer.lock() {
            *slot = answer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_need_no_lookup() {
        let resolver = Resolver::new("::1", 8443);
        assert_eq!(resolver.addresses().await.unwrap(), ["[::1]:8443".parse().unwrap()]);
    }

    #[tokio::test]
    async fn the_last_answer_outlives_the_name_servers() {
        let resolver = Resolver::new("name.invalid", 1);
        assert!(resolver.addresses().await.is_err());
        let known: SocketAddr = "127.0.0.1:1".parse().unwrap();
        resolver.store(Some(Answer { at: Instant::now(), addresses: vec![known] }));
        resolver.doubt();
        assert_eq!(resolver.addresses().await.unwrap(), [known]);
    }
}
