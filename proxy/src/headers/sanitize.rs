//! Removing headers in every spelling that an application might read as the same name.
//!
//! HTTP ignores case. CGI, WSGI, Rack and PHP turn `-` into `_`, some of them every other character too, so that
//! `x_spiffe_id` and `x-spiffe-id` are one variable to the application. Here they are one name as well.

use http::HeaderName;

use super::XFCC;
use crate::message::Fields;

/// The names that are removed.
#[derive(Debug)]
pub(super) struct StripList {
    names: Vec<HeaderName>,
    /// The lengths of the names, a bit for each, [`LONGEST_TOLD`] standing for all that are longer: no other field needs
    /// to be looked at.
    lengths: u64,
}

/// The longest length that has a bit of its own, plus one.
const LONGEST_TOLD: usize = 63;

const fn length_bit(length: usize) -> u64 {
    1 << if length < LONGEST_TOLD { length } else { LONGEST_TOLD }
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
        let lengths = names.iter().fold(0, |lengths, name| lengths | length_bit(name.as_str().len()));
        Self { names, lengths }
    }

    /// Whether a field of that name is one of those that are removed.
    pub(super) fn removes(&self, name: &[u8]) -> bool {
        self.lengths & length_bit(name.len()) != 0
            && self.names.iter().any(|known| same_variable(known.as_str().as_bytes(), name))
    }

    /// Removes all fields of all names in all spellings, in one pass and without allocating.
    pub(super) fn clean(&self, fields: &mut Fields) {
        fields.retain(|name, _| !self.removes(name));
    }
}

/// Whether both names are one when case is ignored and all that is not a letter or digit is taken as `_`.
fn same_variable(known: &[u8], name: &[u8]) -> bool {
    let fold = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'_' };
    known.len() == name.len() && known.iter().map(fold).eq(name.iter().map(fold))
}
