//! How many threads move data.

use std::{fmt, num::NonZeroUsize, str::FromStr};

use svidecar_document::{text::InvalidValue, text_value};

/// Number of threads that move data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Workers {
    /// The CPU quota, at least 1 and at most 4.
    #[default]
    Auto,
    /// This many.
    Count(NonZeroUsize),
}

impl Workers {
    /// Most threads that a setting may ask for.
    pub const MAX: usize = 256;
}

impl FromStr for Workers {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match text.parse() {
            Ok(count) if NonZeroUsize::get(count) <= Self::MAX => Ok(Self::Count(count)),
            _ => Err(InvalidValue(format!(
                "`{text}` is not a number of workers; expected `auto` or 1 to {}",
                Self::MAX
            ))),
        }
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

text_value!(Workers, "Workers", "workers", ["auto", "2"]);
