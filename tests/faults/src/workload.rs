//! A workload that holds its SVID by the Workload API, with a client that others wrote, and says each change of it.
//!
//! Owns the words between this process and the soak: [`News`]. Keeps what it has while nobody answers, as a workload does.

use std::{fmt, str::FromStr, time::Duration};

use anyhow::{Context as _, Error, Result, bail};
use spiffe::WorkloadApiClient;
use tokio_stream::StreamExt as _;
use x509_parser::parse_x509_certificate;

/// Before it asks again.
const AGAIN: Duration = Duration::from_millis(200);

/// What a workload learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It has an SVID that ends then, in seconds since 1970.
    Svid(i64),
    /// It shall have none.
    Denied,
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Svid(end) => write!(f, "svid {end}"),
            Self::Denied => f.write_str("denied"),
        }
    }
}

impl FromStr for News {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(' ') {
            Some(("svid", end)) => Ok(Self::Svid(end.parse()?)),
            None if text == "denied" => Ok(Self::Denied),
            _ => bail!("no news: {text}"),
        }
    }
}

/// Follows the Workload API for good.
///
/// # Errors
/// Never; it ends when it is killed.
pub async fn follow(socket: &str) -> Result<()> {
    loop {
        if let Err(error) = session(socket).await {
            if error.to_string().contains("no identity issued") {
                println!("{}", News::Denied);
            } else {
                println!("cannot follow: {error:#}");
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn session(socket: &str) -> Result<()> {
    let client = WorkloadApiClient::connect_to(format!("unix:{socket}")).await?;
    let mut contexts = client.stream_x509_contexts().await?;
    while let Some(context) = contexts.next().await {
        let context = context?;
        let svid = context.default_svid().context("no default SVID")?;
        let leaf = svid.cert_chain().first().context("an empty chain")?;
        let (_, leaf) = parse_x509_certificate(leaf.as_bytes())?;
        println!("{}", News::Svid(leaf.validity().not_after.timestamp()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_read_as_they_are_written() {
        for news in [News::Svid(1_800_000_000), News::Denied] {
            assert_eq!(news.to_string().parse::<News>().unwrap(), news);
        }
        assert!("cannot follow: x".parse::<News>().is_err());
    }
}
