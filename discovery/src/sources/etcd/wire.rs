//! What etcd's JSON gateway writes and is asked: keys and values in base 64, 64-bit numbers as text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};

/// The answer to a range.
#[derive(Debug, Deserialize)]
pub(super) struct Range {
    pub(super) header: Header,
    #[serde(default)]
    pub(super) kvs: Vec<KeyValue>,
    #[serde(default)]
    pub(super) more: bool,
    #[serde(default, deserialize_with = "number")]
    pub(super) count: u64,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Header {
    #[serde(default, deserialize_with = "number")]
    pub(super) revision: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct KeyValue {
    #[serde(deserialize_with = "octets")]
    pub(super) key: Vec<u8>,
    #[serde(default, deserialize_with = "octets")]
    pub(super) value: Vec<u8>,
}

/// One line of a watch.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub(super) result: Option<Watched>,
    pub(super) error: Option<Failure>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Watched {
    #[serde(default)]
    pub(super) canceled: bool,
    #[serde(default)]
    pub(super) cancel_reason: String,
    #[serde(default, deserialize_with = "number")]
    pub(super) compact_revision: u64,
    #[serde(default)]
    pub(super) events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Event {
    /// Absent for a put.
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) kv: KeyValue,
}

impl Event {
    pub(super) fn is_deletion(&self) -> bool {
        self.kind.as_deref() == Some("DELETE")
    }
}

/// An error, as an answer or as the last line of a watch.
#[derive(Debug, Deserialize)]
pub(super) struct Failure {
    #[serde(default)]
    pub(super) message: String,
}

/// A question about all keys that begin with `prefix`.
pub(super) struct Prefix {
    first: String,
    end: String,
}

impl Prefix {
    /// All keys below the path `prefix`.
    pub(super) fn below(prefix: &str) -> Self {
        let first = format!("{prefix}/").into_bytes();
        let mut end = first.clone();
        // The octet after the slash: the first key that is not below.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        Self { first: STANDARD.encode(first), end: STANDARD.encode(end) }
    }

    /// One page, from the key after `after` on, as of `revision`; 0 is now.
    pub(super) fn page(&self, after: Option<&[u8]>, revision: u64, limit: u32) -> String {
        let first = after.map(|after| STANDARD.encode([after, b"\0"].concat()));
        let first = first.as_deref().unwrap_or(&self.first);
        let end = &self.end;
        format!(r#"{{"key":"{first}","range_end":"{end}","revision":"{revision}","limit":"{limit}"}}"#)
    }

    /// How many keys there are.
    pub(super) fn count(&self) -> String {
        format!(r#"{{"key":"{}","range_end":"{}","count_only":true}}"#, self.first, self.end)
    }

    /// All events since `revision`.
    pub(super) fn watch(&self, revision: u64) -> String {
        let (first, end) = (&self.first, &self.end);
        format!(
            r#"{{"create_request":{{"key":"{first}","range_end":"{end}","start_revision":"{revision}","progress_notify":true,"fragment":true}}}}"#
        )
    }
}

fn octets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(|_| serde::de::Error::custom("not in base 64"))
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Number(u64),
    }
    match Written::deserialize(deserializer)? {
        Written::Number(number) => Ok(number),
        Written::Text(text) => text.parse().map_err(|_| serde::de::Error::custom("not a number")),
    }
}
