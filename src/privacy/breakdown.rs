//! How many viewers were of which kind, so that nobody among them can be found. Knows nothing of
//! Postgres.

use serde_json::{Map, Value};

/// Fewer than this are not named.
const FEWEST: i64 = 5;

/// Where those are counted.
pub const OTHER: &str = "other";

/// Adds rows, counted by kind, to what is kept. Kinds are named by what came together alone: who
/// sees the counts before and after learns of no single row.
pub fn add(kept: &mut Map<String, Value>, counted: &Map<String, Value>) {
    for (kind, count) in counted {
        let count = count.as_i64().unwrap_or(0);
        if count == 0 {
            continue;
        }
        let kind = if count < FEWEST { OTHER } else { kind };
        let before = kept.get(kind).and_then(Value::as_i64).unwrap_or(0);
        kept.insert(kind.to_owned(), before.saturating_add(count).into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sum(kept: Value, counted: Value) -> Value {
        let (Value::Object(mut kept), Value::Object(counted)) = (kept, counted) else {
            panic!("objects are added");
        };
        add(&mut kept, &counted);
        kept.into()
    }

    #[test]
    fn few_are_not_named() {
        assert_eq!(
            sum(
                json!({}),
                json!({"DE": 5, "FR": 4, "PT": 1, "unknown": 7, "AT": 0})
            ),
            json!({"DE": 5, "other": 5, "unknown": 7})
        );
    }

    #[test]
    fn one_more_is_not_named_either() {
        assert_eq!(
            sum(json!({"DE": 5, "other": 2}), json!({"DE": 1, "FR": 6})),
            json!({"DE": 5, "FR": 6, "other": 3})
        );
    }

    #[test]
    fn no_row_is_lost() {
        let counted = json!({"a": 1, "b": 2, "c": 30, "other": 4, "": 6});
        let Value::Object(total) = sum(json!({"c": 10}), counted) else {
            panic!("an object comes back");
        };
        assert_eq!(total.values().filter_map(Value::as_i64).sum::<i64>(), 53);
    }
}
