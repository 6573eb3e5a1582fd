//! Who speaks on a connection.
//!
//! Owns the proof that the pinned process is the one at the other end. The kernel says of each byte on a Unix socket who
//! wrote it. Bytes that were written before the process was pinned prove nothing, for its PID may have been another's
//! then, and its program another. Bytes written after do, and every client writes some: it acknowledges our settings
//! (RFC 9113 §6.5.3), which it sees only after it was pinned.

use tokio::sync::watch;

use crate::error::AttestError;

/// What has been heard on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// Nothing that proves anything.
    Nothing,
    /// The pinned process, since it was pinned.
    Caller,
    /// Another process. It stays so.
    Other(i32),
}

/// Listens for who speaks on one connection.
pub struct Speaker {
    caller: i32,
    heard: watch::Sender<Heard>,
}

impl Speaker {
    /// For a connection of the process `caller`.
    pub fn new(caller: i32) -> Self {
        Self { caller, heard: watch::Sender::new(Heard::Nothing) }
    }

    /// The process `writer` (0 if the kernel does not say) has written something since the caller was pinned.
    pub fn wrote(&self, writer: i32) {
        let now = if writer == self.caller { Heard::Caller } else { Heard::Other(writer) };
        self.heard.send_if_modified(|heard| {
            let news = *heard != now && !matches!(heard, Heard::Other(_));
            if news {
                *heard = now;
            }
            news
        });
    }

    /// Waits until the caller has spoken.
    ///
    /// # Errors
    /// When another process has.
    pub async fn is_the_caller(&self) -> Result<(), AttestError> {
        let mut heard = self.heard.subscribe();
        let heard = heard.wait_for(|heard| *heard != Heard::Nothing).await.map(|heard| *heard);
        match heard {
            Ok(Heard::Other(other)) => Err(AttestError::SharedConnection { pid: self.caller, other }),
            // Only with us does the sender go.
            Ok(Heard::Caller | Heard::Nothing) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn nothing_is_proven_until_the_caller_speaks_nor_ever_after_another_has() {
        let speaker = Speaker::new(7);
        assert!(speaker.is_the_caller().now_or_never().is_none());
        speaker.wrote(7);
        assert!(speaker.is_the_caller().now_or_never().unwrap().is_ok());
        speaker.wrote(8);
        speaker.wrote(7);
        let refused = speaker.is_the_caller().now_or_never().unwrap();
        assert!(matches!(refused, Err(AttestError::SharedConnection { pid: 7, other: 8 })), "{refused:?}");
    }
}
