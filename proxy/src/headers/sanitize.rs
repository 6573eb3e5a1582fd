//! Removing headers in every spelling that an application might read as the same name.
//!
//! HTTP ignores case. CGI, WSGI, Rack and PHP turn `-` into `_`, some of them every other character too, so that
//! `x_spiffe_id` and `x-spiffe-id` are one variable to the application. Here they are one name as well.

use http::{HeaderMap, HeaderName};

use super::XFCC;

/// The names that are removed.
#[derive(Debug)]
pub(super) struct StripList {
    names: Vec<HeaderName>,
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
        Self { names }
    }

    /// Removes all values of all names in all spellings. Allocates only when an odd spelling is there.
    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.names {
            headers.remove(name);
        }
        if headers.keys().any(|name| self.is_spelling(name)) {
            let found: Vec<_> = headers.keys().filter(|name| self.is_spelling(name)).cloned().collect();
            for name in found {
                headers.remove(name);
            }
        }
    }

    fn is_spelling(&self, name: &HeaderName) -> bool {
        self.names.iter().any(|known| same_variable(known.as_str(), name.as_str()))
    }
}

/// Whether both names are one when all that is not a letter or digit is taken as `_`.
fn same_variable(known: &str, name: &str) -> bool {
    let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'_' };
    known.len() == name.len() && known.bytes().map(fold).eq(name.bytes().map(fold))
}
