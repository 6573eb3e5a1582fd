//! Keys, certificate authority, minting and validating SVIDs, bundle documents.
//!
//! Owns every cryptographic decision that the three binaries share: what an SVID looks like, when a
//! peer's SVID is accepted, how a bundle is written and read, and the TLS settings between members of a
//! trust domain. Values in, values out: the time is an argument, nothing here opens a file, a socket or a
//! database, and no key leaves its [`key::PrivateKey`] except through a method that says so.

pub mod bundle;
pub mod csr;
mod der;
mod error;
pub mod jwt;
pub mod key;
pub mod pem;
pub mod time;
pub mod tls;
pub mod x509;

pub use error::AuthorityError;
pub use rustls_pki_types::{CertificateDer, UnixTime};

#[cfg(test)]
mod tests {
    /// Each code of a refused peer or token is a heading of the troubleshooting page.
    #[test]
    fn every_code_is_explained() {
        let page = include_str!("../../../docs/troubleshooting.md");
        for source in [include_str!("x509/error.rs"), include_str!("jwt/error.rs")] {
            let codes =
                source.lines().filter_map(|line| line.trim().split_once(" => \"")?.1.strip_suffix("\","));
            let codes = codes.collect::<Vec<_>>();
            assert!(codes.len() > 15, "{codes:?}");
            for code in codes {
                assert!(page.contains(&format!("### `{code}`\n")), "`{code}` has no heading");
            }
        }
    }
}
