//! Claims of a token in protobuf's form of JSON, there and back.

use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::{Map, Number};

/// Converts a JSON object.
#[must_use]
pub fn to_struct(claims: Map<String, serde_json::Value>) -> Struct {
    Struct { fields: claims.into_iter().map(|(name, value)| (name, to_value(value))).collect() }
}

fn to_value(value: serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(value),
        // Protobuf has doubles only; what is no double becomes NaN in no case that serde_json produces.
        serde_json::Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(value) => Kind::StringValue(value),
        serde_json::Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(to_value).collect() })
        }
        serde_json::Value::Object(fields) => Kind::StructValue(to_struct(fields)),
    };
    Value { kind: Some(kind) }
}

/// Converts back, in the order of names. Whole numbers, such as `exp`, are whole again.
#[must_use]
pub fn from_struct(claims: Struct) -> Map<String, serde_json::Value> {
    claims.fields.into_iter().map(|(name, value)| (name, from_value(value))).collect()
}

fn from_value(value: Value) -> serde_json::Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::NumberValue(value)) => number(value),
        Some(Kind::StringValue(value)) => value.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(from_value).collect(),
        Some(Kind::StructValue(fields)) => from_struct(fields).into(),
    }
}

fn number(number: f64) -> serde_json::Value {
    #[expect(clippy::cast_possible_truncation, reason = "the next line checks that nothing was lost")]
    let whole = number as i64;
    #[expect(clippy::cast_precision_loss, reason = "equality is what is asked")]
    if whole as f64 == number {
        return whole.into();
    }
    Number::from_f64(number).map_or(serde_json::Value::Null, serde_json::Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_survive_the_trip() {
        let claims = serde_json::json!({
            "aud": ["a", "b"], "exp": 1_700_000_000, "nested": {"x": [1.5, null, true]}, "sub": "spiffe://demo.org/a",
        });
        let serde_json::Value::Object(map) = claims else { panic!() };
        assert_eq!(from_struct(to_struct(map.clone())), map);
    }

    #[test]
    fn expiry_stays_a_whole_number() {
        assert_eq!(number(1_700_000_000.0).to_string(), "1700000000");
        assert_eq!(number(0.5).to_string(), "0.5");
        assert_eq!(number(f64::NAN), serde_json::Value::Null);
    }
}
