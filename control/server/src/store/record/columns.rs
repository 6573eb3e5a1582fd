//! Records as rows of a table, for any database that has tables: the names of the columns, and what is in them.

use svidecar_id::SpiffeId;

use crate::store::error::StoreError;

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Yes or no; a database without flags keeps it as 1 or 0.
    Flag(bool),
    /// A number.
    Integer(i64),
    /// A text.
    Text(String),
}

/// A record that is a row, but for its lists.
pub trait Columns: Sized {
    /// The columns' names, those of the fields.
    const NAMES: &'static [&'static str];

    /// What is in them, in the order of the names.
    fn values(&self) -> Vec<Value>;

    /// The record with empty lists. `next` reads one column after the other, in the order of the names.
    ///
    /// # Errors
    /// What `next` says, or [`StoreError::Corrupt`].
    fn read(next: impl FnMut() -> Result<Value, StoreError>) -> Result<Self, StoreError>;
}

/// Says which fields of a record are columns, and which are lists.
macro_rules! columns {
    ($record:ty { $($column:ident),* $(,)? } lists { $($list:ident),* $(,)? }) => {
        impl $crate::store::record::columns::Columns for $record {
            const NAMES: &'static [&'static str] = &[$(stringify!($column)),*];

            fn values(&self) -> Vec<$crate::store::record::columns::Value> {
                vec![$($crate::store::record::columns::Field::to_value(&self.$column)),*]
            }

            fn read(
                mut next: impl FnMut() -> Result<
                    $crate::store::record::columns::Value,
                    $crate::store::error::StoreError,
                >,
            ) -> Result<Self, $crate::store::error::StoreError> {
                Ok(Self {
                    $($column: $crate::store::record::columns::field(stringify!($column), next()?)?,)*
                    $($list: Vec::new(),)*
                })
            }
        }
    };
}

pub(super) use columns;

/// A type that fits a column.
pub trait Field: Sized {
    /// As the column holds it.
    fn to_value(&self) -> Value;

    /// From what the column holds; what is wrong with it, if it is none of these.
    ///
    /// # Errors
    /// What the column holds is no such thing.
    fn from_value(value: Value) -> Result<Self, String>;
}

/// Reads the value of a column.
///
/// # Errors
/// [`StoreError::Corrupt`], with the name of the column.
pub fn field<F: Field>(name: &'static str, value: Value) -> Result<F, StoreError> {
    F::from_value(value).map_err(|reason| StoreError::corrupt(name, reason))
}

impl Field for bool {
    fn to_value(&self) -> Value {
        Value::Flag(*self)
    }

    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Flag(flag) => Ok(flag),
            Value::Integer(number) => Ok(number != 0),
            Value::Text(text) => Err(format!("{text:?} is no flag")),
        }
    }
}

impl Field for i64 {
    fn to_value(&self) -> Value {
        Value::Integer(*self)
    }

    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Integer(number) => Ok(number),
            other => Err(format!("{other:?} is no number")),
        }
    }
}

impl Field for i32 {
    fn to_value(&self) -> Value {
        Value::Integer((*self).into())
    }

    fn from_value(value: Value) -> Result<Self, String> {
        let number = i64::from_value(value)?;
        Self::try_from(number).map_err(|_| format!("{number} is too large"))
    }
}

impl Field for String {
    fn to_value(&self) -> Value {
        Value::Text(self.clone())
    }

    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Text(text) => Ok(text),
            other => Err(format!("{other:?} is no text")),
        }
    }
}

impl Field for SpiffeId {
    fn to_value(&self) -> Value {
        Value::Text(self.as_str().to_owned())
    }

    fn from_value(value: Value) -> Result<Self, String> {
        Self::parse(&String::from_value(value)?).map_err(|error| error.to_string())
    }
}
