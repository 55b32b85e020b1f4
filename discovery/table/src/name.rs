//! Names as the table keeps them: checked once at the edge, cheap to clone, always lower case.

use core::borrow::Borrow;
use core::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::SharedStr;
use crate::hash::{index_hash, stable_hash};

/// Longest label in octets (RFC 1035 §2.3.4).
pub const LABEL_LEN_MAX: usize = 63;
/// Longest service name in octets of text. Leaves room inside the 255 octets of a domain name (RFC 1035
/// §2.3.4) for `_port._tcp.`, `<instance>.inst.` and an ordinary zone; a schema reports what still does not fit.
pub const SERVICE_NAME_LEN_MAX: usize = 180;

/// Why a text is not a service name.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum NameError {
    /// The text has no label at all.
    #[error("the name is empty")]
    Empty,
    /// Two dots in a row, or a dot at either end.
    #[error("the name {0:?} has an empty label")]
    EmptyLabel(String),
    /// A label above [`LABEL_LEN_MAX`].
    #[error("the label {0:?} is longer than 63 octets")]
    LabelTooLong(String),
    /// The whole above [`SERVICE_NAME_LEN_MAX`].
    #[error("the name {0:?} is longer than 180 octets")]
    TooLong(String),
    /// A character outside letters, digits, `-` and `_`.
    #[error("the name {name:?} holds {character:?}; letters, digits, '-' and '_' are allowed")]
    BadCharacter {
        /// The name as given.
        name: String,
        /// The first character that is not allowed.
        character: char,
    },
}

/// The name of a service: labels joined by dots, most specific first (`web.shop.prod`), lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(SharedStr);

impl ServiceName {
    /// Checks and lower-cases `text`.
    ///
    /// # Errors
    /// Says which rule the text breaks; see [`NameError`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > SERVICE_NAME_LEN_MAX {
            return Err(NameError::TooLong(text.to_owned()));
        }
        for label in text.split('.') {
            check_label(text, label)?;
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// Makes a name out of any list of labels, most specific first, by the rule of [`sanitise_label`];
    /// labels that hold nothing usable are left out.
    ///
    /// # Errors
    /// [`NameError::Empty`] when nothing usable is left, [`NameError::TooLong`] when the whole does not fit.
    pub fn from_labels<'a>(labels: impl Iterator<Item = &'a str>) -> Result<Self, NameError> {
        let mut text = String::new();
        for label in labels.filter_map(sanitise_label) {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(&label);
        }
        Self::parse(&text)
    }

    /// The name as text, without a dot at the end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The labels, most specific first.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }

    /// The key under which the snapshot's index holds this name.
    #[must_use]
    pub fn index_hash(&self) -> u64 {
        index_hash(self.0.as_bytes())
    }
}

fn check_label(name: &str, label: &str) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::EmptyLabel(name.to_owned()));
    }
    if label.len() > LABEL_LEN_MAX {
        return Err(NameError::LabelTooLong(label.to_owned()));
    }
    match label.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '-' || *c == '_')) {
        Some(character) => Err(NameError::BadCharacter { name: name.to_owned(), character }),
        None => Ok(()),
    }
}

/// Turns any text into a label of the native zone: lower case; every run of characters that a label cannot
/// carry becomes one `-`; `-` at the ends is dropped; what is longer than 63 octets is cut and ends in `-`
/// and eight characters of the hash of the whole, so that two long names stay two. `None` if nothing is left.
#[must_use]
pub fn sanitise_label(text: &str) -> Option<String> {
    let mut label = String::with_capacity(text.len().min(LABEL_LEN_MAX));
    for character in text.chars() {
        if character.is_ascii_alphanumeric() || character == '_' {
            label.push(character.to_ascii_lowercase());
        } else if !label.ends_with('-') && !label.is_empty() {
            label.push('-');
        }
    }
    label.truncate(label.trim_end_matches('-').len());
    if label.len() > LABEL_LEN_MAX {
        let tail = base32(stable_hash(&[text]));
        label.truncate(LABEL_LEN_MAX - 9);
        label.truncate(label.trim_end_matches('-').len());
        label.push('-');
        label.push_str(&tail[..8]);
    }
    (!label.is_empty()).then_some(label)
}

/// The label of one instance (`<label>.inst.<service>`): 13 characters of base 32 (RFC 4648 §6, lower case)
/// over the stable hash of source and native id. The same on every edge node.
#[must_use]
pub fn instance_label(source: &str, native_id: &str) -> String {
    base32(stable_hash(&[source, native_id]))
}

/// Length of every [`instance_label`], in octets.
pub const INSTANCE_LABEL_LEN: usize = 13;

fn base32(value: u64) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    (0..INSTANCE_LABEL_LEN)
        .map(|i| char::from(ALPHABET[(value.rotate_left(5 * (i as u32 + 1)) & 31) as usize]))
        .collect()
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ServiceName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.as_str().to_owned()
    }
}

impl Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_lowered() {
        assert_eq!(ServiceName::parse("Web.Shop").unwrap().as_str(), "web.shop");
        assert_eq!(ServiceName::parse(""), Err(NameError::Empty));
        assert!(matches!(ServiceName::parse("a..b"), Err(NameError::EmptyLabel(_))));
        assert!(matches!(ServiceName::parse(&"a".repeat(64)), Err(NameError::LabelTooLong(_))));
        assert!(matches!(ServiceName::parse("a b"), Err(NameError::BadCharacter { character: ' ', .. })));
        assert!(matches!(ServiceName::parse(&"abc.".repeat(60)), Err(NameError::TooLong(_))));
    }

    #[test]
    fn labels_are_sanitised() {
        assert_eq!(sanitise_label("Web Front/End").as_deref(), Some("web-front-end"));
        assert_eq!(sanitise_label("--é--"), None);
        assert_eq!(sanitise_label("10.0.4.11").as_deref(), Some("10-0-4-11"));
        let (a, b) = (
            sanitise_label(&format!("{}1", "x".repeat(70))),
            sanitise_label(&format!("{}2", "x".repeat(70))),
        );
        assert_ne!(a, b);
        assert_eq!(a.unwrap().len(), 63);
    }

    #[test]
    fn instance_labels_have_one_length_and_differ() {
        let label = instance_label("prod", "web.1");
        assert_eq!(label.len(), INSTANCE_LABEL_LEN);
        assert_ne!(label, instance_label("prod", "web.2"));
        assert_ne!(label, instance_label("test", "web.1"));
    }
}
