//! Query parameters: each known one at most once, no others.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::problem::Refusal;
use crate::model::{ProblemCode, did_you_mean};

/// The query parameters of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads a query that may hold `known` parameters only.
    pub fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Refusal> {
        let mut parameters = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let detail = if known.is_empty() {
                    format!("unknown query parameter {name}; none are known here")
                } else {
                    let hint = did_you_mean(&name, known.iter().copied());
                    format!("unknown query parameter {name}{hint} (known are {})", known.join(", "))
                };
                return Err(Refusal::new(ProblemCode::UnknownField, detail).at(name));
            }
            if parameters.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                let detail = format!("the query parameter {name} is given twice");
                return Err(Refusal::new(ProblemCode::InvalidField, detail).at(name));
            }
        }
        Ok(Self(parameters))
    }

    /// The value of a parameter, where it was given.
    pub fn get<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|error| Refusal::new(ProblemCode::InvalidField, format!("{name}={text}: {error}")).at(name))
    }
}

/// No query parameters at all. Extracting it refuses requests that have one: what is ignored would seem to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoQuery;

impl<S: Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        Query::parse(parts.uri.query(), &[]).map(|_| Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_and_others_refused() {
        let query = Query::parse(Some("limit=5&state=a%20b"), &["limit", "state"]).unwrap();
        assert_eq!(query.get::<usize>("limit").unwrap(), Some(5));
        assert_eq!(query.get::<String>("state").unwrap().as_deref(), Some("a b"));
        assert_eq!(query.get::<String>("marker").unwrap(), None);
        assert_eq!(query.get::<usize>("state").unwrap_err().0.field.as_deref(), Some("state"));
        for text in ["limits=5", "limit=1&limit=2", "x"] {
            assert!(Query::parse(Some(text), &["limit"]).is_err(), "{text}");
        }
        assert!(Query::parse(None, &[]).is_ok() && Query::parse(Some(""), &[]).is_ok());
    }
}
