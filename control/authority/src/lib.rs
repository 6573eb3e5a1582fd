//! Keys, certificate authority, minting and validating SVIDs, bundle documents.
//!
//! Owns every cryptographic decision that the three binaries share: what an SVID looks like, when a
//! peer's SVID is accepted, how a bundle is written and read, and the TLS settings between members of a
//! trust domain. Values in, values out: the time is an argument, nothing here opens a file, a socket or a
//! database, and no key leaves its [`key::PrivateKey`] except through a method that says so.

pub mod bundle;
mod certificate;
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
