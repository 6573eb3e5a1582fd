//! The names of identity headers, and what is wrong with one.

use http::HeaderName;

/// Envoy's header: one element per proxy, the newest last.
pub const XFCC: HeaderName = HeaderName::from_static(XFCC_NAME);
pub(super) const XFCC_NAME: &str = "x-forwarded-client-cert";

/// Why settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Not the name of a header.
    #[error("`{name}` is not the name of a header")]
    Name {
        /// The name as it was written.
        name: String,
    },
    /// A template that cannot be filled.
    #[error("the value `{template}` for the header {name}: {problem}")]
    Template {
        /// The header.
        name: String,
        /// The template as it was written.
        template: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The name of a header, as settings have it.
pub(super) fn header_name(name: &str) -> Result<HeaderName, HeaderError> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeaderError::Name { name: name.to_owned() })
}
