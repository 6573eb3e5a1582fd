//! JWT-SVIDs: minting ([`mint`]) and validating ([`validate`]) them. JWS compact serialization only.

mod error;
mod mint;
#[cfg(test)]
mod tests;
mod validate;

pub use error::JwtError;
pub use mint::{JwtClaims, JwtSigner, mint, new_kid};
pub use validate::{JwtSvid, LEEWAY, MAX_TOKEN_BYTES, subject_of_accepted, validate};
