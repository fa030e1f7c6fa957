//! Registration bodies (section 2).

use alloc::{borrow::ToOwned, format, string::String};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{address, capabilities::Capabilities, secret::Secret};

/// The body of `POST /workers/register-request`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterRequest {
    /// A UUIDv4 that stays the same over restarts.
    pub install_id: String,
    /// See [`secret_hash`].
    pub registration_secret_hash: String,
    /// The operator's name for the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What the worker can do.
    pub capabilities: Capabilities,
    /// `studio-worker/<version>`.
    #[serde(default)]
    pub user_agent: String,
}

/// SHA-256 of the secret's hex text, as 64 lower-case hex digits.
pub fn secret_hash(secret: &Secret) -> String {
    let digest = Sha256::digest(secret.reveal().as_bytes());
    digest.iter().fold(String::with_capacity(64), |hex, byte| hex + &format!("{byte:02x}"))
}

/// The answer to a registration request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterAnswer {
    /// What to poll for.
    pub request_id: String,
    /// `pending`.
    #[serde(default)]
    pub status: String,
}

/// The answer to a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nobody has decided yet.
    Pending,
    /// An operator approved the worker. Each such answer carries a fresh token; the newest one counts.
    Approved {
        /// The worker's id from now on.
        worker_id: String,
        /// Its credential.
        auth_token: Secret,
    },
    /// An operator refused the worker.
    Rejected {
        /// Why, if they said so.
        reason: Option<String>,
    },
}

/// Why a body could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not JSON at all.
    #[error("the answer is not JSON ({0})")]
    NotJson(String),
    /// JSON without something that must be there.
    #[error("the answer has no readable `{0}`")]
    Missing(&'static str),
    /// A status of a newer studio.
    #[error("the answer has the unknown status `{0}`")]
    UnknownStatus(String),
}

impl RegisterAnswer {
    /// Reads an answer's body.
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let value = json(body)?;
        let request_id = id(&value, "requestId")?;
        Ok(Self {
            request_id,
            status: value.get("status").and_then(Value::as_str).unwrap_or("pending").to_owned(),
        })
    }
}

impl Decision {
    /// Reads an answer's body.
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let value = json(body)?;
        match text(&value, "status")? {
            "pending" => Ok(Self::Pending),
            "approved" => Ok(Self::Approved {
                worker_id: id(&value, "workerId")?,
                auth_token: Secret::new(text(&value, "authToken")?),
            }),
            "rejected" => Ok(Self::Rejected {
                reason: value
                    .get("reason")
                    .and_then(Value::as_str)
                    .filter(|reason| !reason.is_empty())
                    .map(ToOwned::to_owned),
            }),
            other => Err(BodyError::UnknownStatus(other.chars().take(40).collect())),
        }
    }

    /// The body that says it.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Pending => serde_json::json!({ "status": "pending" }),
            Self::Approved { worker_id, auth_token } => serde_json::json!({
                "status": "approved", "workerId": worker_id, "authToken": auth_token.reveal(),
            }),
            Self::Rejected { reason } => serde_json::json!({ "status": "rejected", "reason": reason }),
        }
    }
}

fn json(body: &[u8]) -> Result<Value, BodyError> {
    serde_json::from_slice(body).map_err(|error| BodyError::NotJson(format!("{error}")))
}

/// An id that addresses are made with.
fn id(value: &Value, name: &'static str) -> Result<String, BodyError> {
    let id = text(value, name)?;
    if address::is_segment(id) { Ok(id.to_owned()) } else { Err(BodyError::Missing(name)) }
}

fn text<'a>(value: &'a Value, name: &'static str) -> Result<&'a str, BodyError> {
    value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).ok_or(BodyError::Missing(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_of_the_hex_text() {
        assert_eq!(
            secret_hash(&Secret::new("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn decisions_of_every_shape() {
        let approved = Decision::Approved { worker_id: "w-1".into(), auth_token: Secret::new("t") };
        for (body, decision) in [
            (r#"{"status":"pending"}"#, Ok(Decision::Pending)),
            (r#"{"status":"approved","workerId":"w-1","authToken":"t","extra":1}"#, Ok(approved)),
            (r#"{"status":"rejected"}"#, Ok(Decision::Rejected { reason: None })),
            (r#"{"status":"rejected","reason":null}"#, Ok(Decision::Rejected { reason: None })),
            (r#"{"status":"rejected","reason":"no"}"#, Ok(Decision::Rejected { reason: Some("no".into()) })),
            (r#"{"status":"approved","workerId":"w-1"}"#, Err(BodyError::Missing("authToken"))),
            (r#"{"status":"approved","workerId":"","authToken":"t"}"#, Err(BodyError::Missing("workerId"))),
            (r#"{"status":"approved","workerId":"..","authToken":"t"}"#, Err(BodyError::Missing("workerId"))),
            (r#"{"status":"maybe"}"#, Err(BodyError::UnknownStatus("maybe".into()))),
            ("{}", Err(BodyError::Missing("status"))),
        ] {
            assert_eq!(Decision::parse(body.as_bytes()), decision, "{body}");
        }
        assert!(matches!(Decision::parse(b"<html>"), Err(BodyError::NotJson(_))));
    }

    #[test]
    fn an_answer_without_a_request_id_is_an_error() {
        assert_eq!(
            RegisterAnswer::parse(br#"{"requestId":"rr-1","status":"pending"}"#).unwrap().request_id,
            "rr-1"
        );
        assert_eq!(RegisterAnswer::parse(b"{}"), Err(BodyError::Missing("requestId")));
        let nowhere = br#"{"requestId":".","status":"pending"}"#;
        assert_eq!(RegisterAnswer::parse(nowhere), Err(BodyError::Missing("requestId")));
    }
}
