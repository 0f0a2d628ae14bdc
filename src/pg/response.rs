//! What an answer by PostgREST says of itself: its headers, which it reads from a setting of the transaction.

use super::settings;
use serde_json::{Map, Value};
use std::ffi::CString;

/// Sets headers of the answer. `(name, value, is_ours)`: what is not ours leaves one that the app has set before as it is.
/// Does nothing where no request is answered.
pub fn set_headers(headers: &[(&str, &str, bool)]) {
    if settings::get(c"request.method").is_none() {
        return;
    }
    let said = settings::get(c"response.headers");
    if let Ok(merged) = CString::new(merged(said.as_deref(), headers)) {
        settings::set_local(c"response.headers", &merged);
    }
}

/// A list of objects of one header each, as PostgREST has it.
fn merged(said: Option<&str>, headers: &[(&str, &str, bool)]) -> String {
    let mut all: Vec<Value> = said
        .and_then(|said| serde_json::from_str(said).ok())
        .unwrap_or_default();
    let is_named = |one: &Value, name: &str| {
        let names = one.as_object().into_iter().flat_map(Map::keys);
        names
            .into_iter()
            .any(|other| other.eq_ignore_ascii_case(name))
    };
    for (name, value, is_ours) in headers {
        if *is_ours {
            all.retain(|one| !is_named(one, name));
        } else if all.iter().any(|one| is_named(one, name)) {
            continue;
        }
        let one = Map::from_iter([((*name).to_owned(), Value::from(*value))]);
        all.push(Value::Object(one));
    }
    Value::Array(all).to_string()
}

#[cfg(test)]
mod tests {
    use super::merged;

    #[test]
    fn headers_of_the_app_stay() {
        let headers = [
            ("Content-Type", "text/calendar", true),
            ("Cache-Control", "public", false),
        ];
        let ours = r#"{"Content-Type":"text/calendar"}"#;
        let cached = r#"{"Cache-Control":"public"}"#;
        for said in [None, Some(""), Some("nonsense"), Some("{}")] {
            assert_eq!(merged(said, &headers), format!("[{ours},{cached}]"));
        }
        let app = r#"{"Set-Cookie":"a"}"#;
        let said = format!(r#"[{app},{{"content-type":"x"}},{{"cache-control":"no-store"}}]"#);
        assert_eq!(
            merged(Some(&said), &headers),
            format!(r#"[{app},{{"cache-control":"no-store"}},{ours}]"#)
        );
    }
}
