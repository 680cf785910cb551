//! `--json`: one object for each failure that a server would count.

use crate::filter::{Datum, Failure, Who};
use crate::time::Time;

/// One result: `line` from 1, `re` from 0, `id`, `time` in epoch seconds, `attempts`, the
/// captures `f`, and `ip` where it differs from the id.
#[must_use]
pub fn object(line: u64, failure: &Failure) -> serde_json::Value {
    let (id, kind) = match &failure.who {
        Who::Id(id) => (id.to_string(), if id.prefix().is_some() { "ip" } else { "str" }),
        Who::Name(name) => (name.to_string(), "dns"),
    };
    let mut captures = serde_json::Map::new();
    for (name, datum) in &failure.data {
        if matches!(&**name, "ip4" | "ip6" | "dns" | "matches") {
            continue;
        }
        let value = match datum {
            Datum::Text(text) => serde_json::json!(&**text),
            Datum::Set(texts) => {
                let mut texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
                texts.sort_unstable();
                serde_json::json!(texts)
            }
            Datum::Tuple(texts) => serde_json::json!(texts.iter().map(Option::as_deref).collect::<Vec<_>>()),
        };
        captures.insert(name.to_string(), value);
    }
    let mut object = serde_json::json!({
        "line": line, "re": failure.regex, "id": id, "id_type": kind,
        "time": failure.time.map(Time::as_f64), "attempts": failure.matches.len().max(1),
    });
    if let Some(map) = object.as_object_mut() {
        if !captures.is_empty() {
            map.insert("f".to_owned(), captures.into());
        }
        if let Some(address) = &failure.address {
            map.insert("ip".to_owned(), address.to_string().into());
        }
    }
    object
}
