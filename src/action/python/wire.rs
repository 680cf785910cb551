//! Values on the way to a helper and back, as JSON.
//!
//! JSON has no tuples, sets and endless numbers, and its keys are texts: an object here has one
//! key, which says what its value stands for (`tuple`, `set`, `map`, `float`).

use serde_json::{Value as Json, json};

use crate::control::Value;

/// A value for a helper.
pub fn pack(value: &Value) -> Json {
    let all = |items: &[Value]| items.iter().map(pack).collect::<Vec<_>>();
    match value {
        Value::None => Json::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Int(number) => (*number).into(),
        Value::Float(number) if number.is_finite() => (*number).into(),
        Value::Float(number) => json!({ "float": number.to_string() }),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => all(items).into(),
        Value::Tuple(items) => json!({ "tuple": all(items) }),
        Value::Set(items) => json!({ "set": all(items) }),
        Value::Map(pairs) => {
            let pairs: Vec<Json> = pairs.iter().map(|(key, value)| json!([pack(key), pack(value)])).collect();
            json!({ "map": pairs })
        }
    }
}

/// A value from a helper; `None` if it is not of this form.
pub fn unpack(json: Json) -> Option<Value> {
    let all = |items: Json| match items {
        Json::Array(items) => items.into_iter().map(unpack).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    Some(match json {
        Json::Null => Value::None,
        Json::Bool(truth) => Value::Bool(truth),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64()?),
        },
        Json::String(text) => Value::Text(text),
        items @ Json::Array(_) => Value::List(all(items)?),
        Json::Object(object) => {
            let (kind, inner) = object.into_iter().next()?;
            match kind.as_str() {
                "tuple" => Value::Tuple(all(inner)?),
                "set" => Value::Set(all(inner)?),
                "float" => Value::Float(inner.as_str()?.parse().ok()?),
                "map" => {
                    let pair = |pair| match pair {
                        Value::List(pair) => <[Value; 2]>::try_from(pair).ok().map(|[key, value]| (key, value)),
                        _ => None,
                    };
                    Value::Map(all(inner)?.into_iter().map(pair).collect::<Option<_>>()?)
                }
                _ => return None,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were() {
        let list = vec![Value::None, true.into(), 7.into(), Value::Float(2.5), "{\"tuple\": 1}".into()];
        let value = Value::Map(vec![
            ("a".into(), Value::Tuple(list.clone())),
            (3.into(), Value::Set(list.clone())),
            ("c".into(), Value::List(vec![Value::List(list), Value::Float(f64::INFINITY)])),
        ]);
        assert_eq!(unpack(pack(&value)), Some(value));
    }

    #[test]
    fn what_is_none_of_it_is_refused() {
        for text in
            ["{}", "{\"evil\": []}", "{\"tuple\": 1}", "{\"map\": [[1]]}", "{\"map\": [1]}", "{\"float\": \"x\"}"]
        {
            assert_eq!(serde_json::from_str(text).ok().and_then(unpack), None, "{text}");
        }
    }
}
