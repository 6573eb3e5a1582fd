//! Removing headers in every spelling that an application might read as the same name.
//!
//! HTTP ignores case. CGI, WSGI, Rack and PHP turn `-` into `_`, some of them every other character too, so that
//! `x_spiffe_id` and `x-spiffe-id` are one variable to the application. Here they are one name as well.

use http::HeaderName;

use super::names::XFCC;
use crate::message::{Fields, Names};

/// The names that are removed.
#[derive(Debug)]
pub(super) struct StripList {
    names: Vec<HeaderName>,
    /// The fields that may have one of the names in some spelling; no other needs to be looked at.
    suspects: Names,
}

impl StripList {
    /// The configured names. The default names are always removed too: an application that reads them must
    /// not be deceived because its proxy was told to use others.
    pub(super) fn new<'n>(configured: impl Iterator<Item = &'n HeaderName>) -> Self {
        let mut names = vec![XFCC, HeaderName::from_static("x-spiffe-id")];
        for name in configured {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let suspects = names.iter().fold(Names::NONE, |suspects, name| match name.as_str().as_bytes() {
            // All spellings have these two in common, and the length.
            [first, .., last] if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() => {
                suspects.with(name.as_str().as_bytes())
            }
            _ => Names::ALL,
        });
        Self { names, suspects }
    }

    /// Whether a field of that name is one of those that are removed.
    pub(super) fn removes(&self, name: &[u8]) -> bool {
        self.names.iter().any(|known| same_variable(known.as_str().as_bytes(), name))
    }

    /// Removes all fields of all names in all spellings, in one pass and without allocating.
    pub(super) fn clean(&self, fields: &mut Fields) {
        fields.retain_among(self.suspects, |name, _| !self.removes(name));
    }
}

/// Whether both names are one when case is ignored and all that is not a letter or digit is taken as `_`.
fn same_variable(known: &[u8], name: &[u8]) -> bool {
    let fold = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'_' };
    known.len() == name.len() && known.iter().map(fold).eq(name.iter().map(fold))
}
