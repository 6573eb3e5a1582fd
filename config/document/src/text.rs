//! Values that people write as one text: what they have in common.
//!
//! Owns the glue that gives such a type serde, a JSON Schema with a `format`, and a check that is run on every text of
//! that format, so that all misspelt values of a document are reported at once. It must never know what a value is
//! used for.

use std::{fmt::Display, str::FromStr};

/// Why a text is not the value that is wanted: one sentence with what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(pub String);

/// Whether a text is a value of one format.
pub type Check = fn(&str) -> Result<(), InvalidValue>;

/// A type that is written as one text. [`text_value!`](crate::text_value) implements it.
pub trait TextValue: FromStr<Err = InvalidValue> + Display {
    /// The `format` in the JSON Schema, which selects the check.
    const FORMAT: &'static str;
}

/// The format of a type, with its check: what a [`Dialect`](crate::check::Dialect) lists.
#[must_use]
pub const fn format<T: TextValue>() -> (&'static str, Check) {
    (T::FORMAT, |text| text.parse::<T>().map(drop))
}

/// Implements serde and JSON Schema for a [`TextValue`](crate::text::TextValue): type, name, format, examples.
#[macro_export]
macro_rules! text_value {
    ($type:ty, $name:literal, $format:literal, $examples:expr) => {
        impl $crate::text::TextValue for $type {
            const FORMAT: &'static str = $format;
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let examples: &[&str] = &$examples;
                schemars::json_schema!({"type": "string", "format": $format, "examples": examples})
            }
        }
    };
}
