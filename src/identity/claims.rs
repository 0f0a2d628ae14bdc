//! Reads what PostgREST says of a request: claims and headers, both JSON texts.

use serde_json::{Map, Value};
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The text is no JSON object.
    Json,
    /// `sub` is there and is no UUID.
    Subject,
}

/// What the claims of a request say of who is calling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// None for an anonymous request.
    pub user: Option<Uuid>,
    /// Signed in without an account, as Supabase's `signInAnonymously` does it.
    pub is_anonymous_user: bool,
}

/// What the claims of a JWT say; nobody where there are no claims or no `sub`.
pub fn caller(claims: &str) -> Result<Caller, Invalid> {
    if claims.trim().is_empty() {
        return Ok(Caller::default());
    }
    let claims = match serde_json::from_str(claims) {
        Ok(Value::Object(claims)) => claims,
        Ok(Value::Null) => return Ok(Caller::default()),
        _ => return Err(Invalid::Json),
    };
    let user = match claims.get("sub") {
        None | Some(Value::Null) => None,
        Some(Value::String(sub)) => user_id(sub)?,
        Some(_) => return Err(Invalid::Subject),
    };
    let is_anonymous_user = match claims.get("is_anonymous") {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(said)) => says_anonymous(said),
        // What nobody has thought of is not an account.
        Some(_) => true,
    };
    Ok(Caller {
        user,
        is_anonymous_user,
    })
}

/// The claim `is_anonymous` as text, as the older setting `request.jwt.claim.is_anonymous` holds it.
pub fn says_anonymous(said: &str) -> bool {
    !(said.is_empty() || said.eq_ignore_ascii_case("false"))
}

/// A user id as text, as the older setting `request.jwt.claim.sub` holds it.
pub fn user_id(sub: &str) -> Result<Option<Uuid>, Invalid> {
    if sub.is_empty() {
        return Ok(None);
    }
    Uuid::try_parse(sub).map(Some).map_err(|_| Invalid::Subject)
}

/// The headers of a request, by their lower-case names. Anything but an object has none: they are hints from the
/// client, never proof.
pub fn headers(headers: &str) -> Map<String, Value> {
    serde_json::from_str(headers).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "7b1f0c9e-3f5a-4c1d-9b57-2f6f5a1c0d11";

    fn user(claims: &str) -> Result<Option<Uuid>, Invalid> {
        caller(claims).map(|caller| caller.user)
    }

    #[test]
    fn subject_is_the_users_id() {
        let claims = format!(r#"{{"role":"authenticated","sub":"{ID}"}}"#);
        assert_eq!(user(&claims), Ok(Some(ID.parse().unwrap())));
    }

    #[test]
    fn claims_without_a_subject_are_nobodys() {
        for claims in ["", " ", "{}", "null", r#"{"sub":null}"#, r#"{"sub":""}"#] {
            assert_eq!(user(claims), Ok(None), "{claims:?}");
        }
    }

    #[test]
    fn malformed_claims_are_refused() {
        for claims in ["{", "[1]", "7", r#"{"sub":"a"} x"#] {
            assert_eq!(user(claims), Err(Invalid::Json), "{claims:?}");
        }
        for claims in [r#"{"sub":"admin"}"#, r#"{"sub":7}"#, r#"{"sub":{}}"#] {
            assert_eq!(user(claims), Err(Invalid::Subject), "{claims:?}");
        }
    }

    #[test]
    fn a_sign_in_without_an_account() {
        for (said, expected) in [
            ("false", false),
            ("null", false),
            (r#""""#, false),
            (r#""false""#, false),
            ("true", true),
            (r#""true""#, true),
            ("1", true),
            ("{}", true),
        ] {
            let claims = format!(r#"{{"sub":"{ID}","is_anonymous":{said}}}"#);
            let caller = caller(&claims).unwrap();
            assert_eq!(caller.is_anonymous_user, expected, "{said}");
            assert_eq!(caller.user, Some(ID.parse().unwrap()));
        }
        let nested = format!(r#"{{"sub":"{ID}","app_metadata":{{"is_anonymous":true}}}}"#);
        assert!(!caller(&nested).unwrap().is_anonymous_user);
    }

    #[test]
    fn headers_are_read_by_name() {
        let read = headers(r#"{"x-session-code":"ABC","n":1}"#);
        assert_eq!(read.get("x-session-code"), Some(&Value::from("ABC")));
        for nonsense in ["nonsense", "", "[1]", "7", "null", r#"{"a":1} x"#] {
            assert_eq!(headers(nonsense), Map::new(), "{nonsense:?}");
        }
    }
}
