//! Bodies of requests: bounded in size and time, read to their end, and JSON.

use std::time::Duration;

use axum::body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;

use super::{Api, problem::Refusal};
use crate::model::{ProblemCode, did_you_mean};

/// Most bytes of a body.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a body may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A body longer than this waits for a place before it is parsed, and keeps that until its answer is made: in memory,
/// parsed JSON is many times as long.
pub const LARGE_BODY_BYTES: usize = 64 << 10;
/// Places for large bodies.
pub const LARGE_BODIES_MAX: usize = 16;

/// A body, parsed.
pub struct Parsed {
    /// What it says.
    pub json: Value,
    /// Of a large body, until its answer is made.
    pub place: Option<OwnedSemaphorePermit>,
}

/// Reads a body that must be JSON. Its media type was checked before ([`super::access`]).
pub async fn read_json(api: &Api, body: Body) -> Result<Parsed, Refusal> {
    let bytes = match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Err(_) => {
            let detail = format!("the body did not arrive within {} s; send it again", BODY_TIMEOUT.as_secs());
            return Err(Refusal::new(ProblemCode::RequestTimeout, detail));
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(error)) => {
            return Err(Refusal::new(ProblemCode::InvalidJson, format!("the body broke off ({error})")));
        }
        Ok(Ok(collected)) => collected.to_bytes(),
    };
    if bytes.is_empty() {
        return Err(Refusal::new(ProblemCode::InvalidJson, "the body is empty; send a JSON object"));
    }
    let place = match bytes.len() > LARGE_BODY_BYTES {
        true => Some(api.large_bodies.clone().acquire_owned().await.expect("it is never closed")),
        false => None,
    };
    let json = serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::new(ProblemCode::InvalidJson, format!("the body is not JSON: {error}")))?;
    Ok(Parsed { json, place })
}

/// The fields of a body that must be an object with no other fields than `known`.
pub fn fields(body: Value, known: &[&str]) -> Result<Map<String, Value>, Refusal> {
    let Value::Object(fields) = body else {
        return Err(Refusal::new(ProblemCode::InvalidField, "the body must be a JSON object"));
    };
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(fields),
        Some(unknown) => {
            let hint = did_you_mean(unknown, known.iter().copied());
            let detail = format!("unknown field {unknown}{hint} (known are {})", known.join(", "));
            Err(Refusal::new(ProblemCode::UnknownField, detail).at(unknown))
        }
    }
}

/// Takes a field that must be there, as a string.
pub fn text(fields: &mut Map<String, Value>, name: &str) -> Result<String, Refusal> {
    match fields.remove(name) {
        None => Err(Refusal::new(ProblemCode::MissingField, format!("{name} is required")).at(name)),
        Some(Value::String(text)) => Ok(text),
        Some(other) => {
            Err(Refusal::new(ProblemCode::InvalidField, format!("{other} is no text; {name} is a string")).at(name))
        }
    }
}

/// Takes a field that may be absent, as a whole number of seconds.
pub fn seconds(fields: &mut Map<String, Value>, name: &str) -> Result<Option<u64>, Refusal> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| {
            let detail = format!("{value} is no number of seconds; leave {name} out for its default");
            Refusal::new(ProblemCode::InvalidField, detail).at(name)
        }),
    }
}

/// The refusal of a body above [`BODY_BYTES_MAX`].
pub fn too_large() -> Refusal {
    Refusal::new(ProblemCode::BodyTooLarge, format!("the body has more than {BODY_BYTES_MAX} bytes"))
}
