//! Events of the bus, made into their wire form once for all subscribers.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::ids::{Millis, timestamp};

/// One event, ready to be sent.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its type: `status_update_event`.
    pub kind: Cow<'static, str>,
    /// The whole frame: `event:` line, `data:` line, empty line, each ended by CRLF.
    pub frame: Bytes,
}

impl Event {
    /// An event of a type with its payload; type and time are added.
    #[must_use]
    pub fn new(kind: impl Into<Cow<'static, str>>, mut payload: Map<String, Value>, now: Millis) -> Self {
        let kind = kind.into();
        payload.insert("eventType".into(), kind.as_ref().into());
        payload.insert("timestamp".into(), timestamp(now).into());
        let data = Value::Object(payload);
        let frame = format!("event: {kind}\r\ndata: {data}\r\n\r\n");
        Self { kind, frame: frame.into() }
    }
}
