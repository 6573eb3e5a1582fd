//! The one table of stable codes: metric label, field of the log, heading of the troubleshooting page.
//!
//! Owns every word by which a program of svidecar names a failure, what a request that meets it is answered, and whose
//! fault it is. A word never changes its meaning and is never used for two; what failed in this very case is said by the
//! error beside it. Knows no program.

mod fault;
mod table;

use std::fmt;

use serde::{Serialize, Serializer};

pub use self::{fault::Fault, table::Code};

impl Code {
    /// The code of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// By its word, as it stands in logs and answers.
impl PartialEq<&str> for Code {
    fn eq(&self, name: &&str) -> bool {
        self.name() == *name
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_words_and_unique() {
        let names: HashSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for name in names {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(Code::named(name).map(Code::name), Some(name));
        }
    }

    /// grpc/doc/http-grpc-status-mapping says what a client makes of a status without a status of gRPC's own.
    #[test]
    fn statuses_of_grpc_are_those_that_a_client_would_make_of_the_status() {
        for code in Code::ALL {
            let mapped = match code.status() {
                400 => 13,
                401 => 16,
                403 => 7,
                404 => 12,
                429 | 502 | 503 | 504 => 14,
                _ => 2,
            };
            assert_eq!(code.grpc(), mapped, "{code}");
        }
    }

    /// Who asked wrongly is told 4xx; whose upstream failed, or who is not served now, 5xx.
    #[test]
    fn only_a_fault_of_the_caller_is_answered_as_one() {
        for code in Code::ALL.iter().filter(|code| code.status() < 500) {
            assert!(matches!(code.fault(), Fault::Peer | Fault::Configuration), "{code}: {}", code.fault());
        }
    }
}
