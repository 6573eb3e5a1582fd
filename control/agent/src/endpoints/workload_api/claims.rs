//! Claims of a token in protobuf's form of JSON.

use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::Map;

/// Converts a JSON object.
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

/// Converts back, for the command line. Whole numbers lose their `.0`.
pub fn from_struct(claims: Struct) -> Map<String, serde_json::Value> {
    let mut fields: Vec<_> = claims.fields.into_iter().collect();
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    fields.into_iter().map(|(name, value)| (name, from_value(value))).collect()
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

fn number(value: f64) -> serde_json::Value {
    // Doubles hold whole numbers exactly up to 2^53.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT { (value as i64).into() } else { value.into() }
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
}
