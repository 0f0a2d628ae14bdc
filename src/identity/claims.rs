//! Reads what PostgREST says of a request: claims and headers, both JSON texts.

use serde_json::Value;
use uuid::Uuid;

#[derive(Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The text is no JSON object.
    Json,
    /// `sub` is there and is no UUID.
    Subject,
}

/// The user id in the claims of a JWT; none when there are no claims or no `sub`.
pub fn subject(claims: &str) -> Result<Option<Uuid>, Invalid> {
    if claims.trim().is_empty() {
        return Ok(None);
    }
    let claims = match serde_json::from_str(claims) {
        Ok(Value::Object(claims)) => claims,
        Ok(Value::Null) => return Ok(None),
        _ => return Err(Invalid::Json),
    };
    match claims.get("sub") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(sub)) => user_id(sub),
        Some(_) => Err(Invalid::Subject),
    }
}

/// A user id as text, as the older setting `request.jwt.claim.sub` holds it.
pub fn user_id(sub: &str) -> Result<Option<Uuid>, Invalid> {
    if sub.is_empty() {
        return Ok(None);
    }
    Uuid::try_parse(sub).map(Some).map_err(|_| Invalid::Subject)
}

/// The value of a request header; names are lower case. Anything but an object of strings has
/// no headers: they are hints from the client, never proof.
pub fn header(headers: &str, name: &str) -> Option<String> {
    let headers: Value = serde_json::from_str(headers).ok()?;
    Some(headers.get(name)?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "7b1f0c9e-3f5a-4c1d-9b57-2f6f5a1c0d11";

    #[test]
    fn subject_is_the_users_id() {
        let claims = format!(r#"{{"role":"authenticated","sub":"{ID}"}}"#);
        assert_eq!(subject(&claims), Ok(Some(ID.parse().unwrap())));
    }

    #[test]
    fn claims_without_a_subject_are_nobodys() {
        for claims in ["", " ", "{}", "null", r#"{"sub":null}"#, r#"{"sub":""}"#] {
            assert_eq!(subject(claims), Ok(None), "{claims:?}");
        }
    }

    #[test]
    fn malformed_claims_are_refused() {
        for claims in ["{", "[1]", "7", r#"{"sub":"a"} x"#] {
            assert_eq!(subject(claims), Err(Invalid::Json), "{claims:?}");
        }
        for claims in [r#"{"sub":"admin"}"#, r#"{"sub":7}"#, r#"{"sub":{}}"#] {
            assert_eq!(subject(claims), Err(Invalid::Subject), "{claims:?}");
        }
    }

    #[test]
    fn headers_are_read_by_name() {
        let headers = r#"{"x-session-code":"ABC","n":1}"#;
        assert_eq!(header(headers, "x-session-code").as_deref(), Some("ABC"));
        assert_eq!(header(headers, "n"), None);
        assert_eq!(header("nonsense", "x-session-code"), None);
        assert_eq!(header("", "x-session-code"), None);
    }
}
