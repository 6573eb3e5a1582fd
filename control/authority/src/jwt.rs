//! JWT-SVIDs: minting ([`mint`]) and validating ([`validate`]) them. JWS compact serialization only.

mod error;
mod mint;
#[cfg(test)]
mod tests;
mod validate;

pub use error::JwtError;
pub use mint::{JwtClaims, JwtSigner, mint, new_kid};
pub use validate::{JwtSvid, LEEWAY, subject_of_accepted, validate};

/// Most bytes of a token that are looked at.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
