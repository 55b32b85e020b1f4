//! JSON as Go reads it into a structure: keys in any case, the last of two wins, `null` leaves a value as it was.

use core::fmt;
use core::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::mistake::{Mistakes, Positions};

/// The members of an object, in the order of the text, with their values.
#[derive(Debug)]
pub(crate) struct Fields(Vec<(String, Value)>);

impl Fields {
    /// Reads the text of a whole file.
    pub(crate) fn read(text: &str, file: &str) -> Result<Self, Mistakes> {
        serde_json::from_str(text).map_err(|error| {
            let positions = Positions::new(file, text);
            let line =
                text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
            let at = line + error.column().saturating_sub(1);
            // What the library found is not repeated, since it may be a secret; its own words hold the place as well.
            let full = error.to_string();
            let message = full.split(" at line ").next().unwrap_or("not JSON");
            let hint = "a JSON object without comments is wanted".to_owned();
            positions.mistake(&(at..at), format!("not readable as JSON: {message}"), Some(hint)).into()
        })
    }

    /// The value of `key` in any case; `None` if it is absent or null.
    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        let same = |(name, _): &&(String, Value)| name.eq_ignore_ascii_case(key);
        self.0.iter().rev().find(same).map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// True if `key` is there and null: for lists that is an empty one.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.0.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(key)).is_some_and(|(_, v)| v.is_null())
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Fields(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Where `key` stands in the text, in any case; the start if it does not.
pub(crate) fn place(text: &str, key: &str) -> Range<usize> {
    let quoted = format!("\"{}\"", key.to_ascii_lowercase());
    // Lower case of ASCII alone keeps the offsets.
    let lower = text.to_ascii_lowercase();
    let is_key = |(at, _): &(usize, &str)| lower[at + quoted.len()..].trim_start().starts_with(':');
    match lower.match_indices(&quoted).filter(is_key).last() {
        Some((at, _)) => at..at + quoted.len(),
        None => 0..0,
    }
}
