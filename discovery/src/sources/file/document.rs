//! From the text of a file to definitions: which format it is, and where a mistake is.

use core::fmt;
use std::path::Path;
use std::sync::Arc;

use portolan_table::{Instance, ServiceSpec};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::definition::Definitions;
use crate::sources::targets::{self, Group};

/// One service of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Definition {
    pub(super) spec: Arc<ServiceSpec>,
    pub(super) instances: Vec<Arc<Instance>>,
}

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Content {
    /// Its services, each name once.
    pub(super) services: Vec<Definition>,
    /// What was left out, and why.
    pub(super) notes: Vec<String>,
}

/// The formats, by the file's extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Toml,
    Yaml,
    Json,
}

impl Format {
    /// `None` for a file that is not for us.
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Reads `text`. All or nothing: a file with a mistake says nothing.
///
/// # Errors
/// `FILE:LINE:COLUMN: message`, in one line.
pub(super) fn parse(path: &Path, text: &str, service_label: Option<&str>) -> Result<Content, String> {
    let format = Format::of(path).ok_or_else(|| {
        format!("{}: format not known; name the file .toml, .yaml or .json", path.display())
    })?;
    let document = match format {
        Format::Toml => Definitions::from_toml(text).map(Document::Native).map_err(|(offset, message)| {
            let (line, column) = position(text, offset.unwrap_or(0));
            (line, column, message)
        }),
        Format::Json => serde_json::from_str(text).map_err(|error| {
            let message = error.to_string();
            // The position is said once, in front.
            let tail = format!(" at line {} column {}", error.line(), error.column());
            let message = message.strip_suffix(tail.as_str()).unwrap_or(&message).to_owned();
            (error.line().max(1), error.column().max(1), message)
        }),
        Format::Yaml => serde_saphyr::from_str(text).map_err(|error| {
            let place = error.location().map(|at| (at.line(), at.column())).unwrap_or((1, 1));
            let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).max(1);
            (number(place.0), number(place.1), yaml_message(&error))
        }),
    };
    let document: Document = document.map_err(|(line, column, message): (usize, usize, String)| {
        let message = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>();
        format!("{}:{line}:{column}: {}", path.display(), message.join(", "))
    })?;
    Ok(match document {
        Document::Native(definitions) => Content { services: definitions.0, notes: Vec::new() },
        Document::Targets(groups) => {
            // Without host names: a file is read off the runtime's threads, where nobody waits for a resolver.
            let (services, notes) = targets::convert(groups, service_label, None);
            let define = |(spec, instances)| Definition { spec, instances };
            Content { services: services.into_values().map(define).collect(), notes }
        }
    })
}

/// The message alone, without the picture of the source text.
fn yaml_message(error: &serde_saphyr::Error) -> String {
    let message = error.without_snippet().to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    // The parser's words for "here should be a list" and "a table".
    message
        .replace("expected sequence start", "expected a list")
        .replace("expected mapping start", "expected a table")
}

/// Line and column, from 1, of an offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Either format: a table is Portolan's own, a list is Prometheus'.
enum Document {
    Native(Definitions),
    Targets(Vec<Group>),
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableOrList;
        impl<'de> Visitor<'de> for TableOrList {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table with `service`, or a list of target groups")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Document, A::Error> {
                Definitions::deserialize(MapAccessDeserializer::new(map)).map(Document::Native)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Document, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Document::Targets)
            }

            /// A YAML file without content.
            fn visit_unit<E: Error>(self) -> Result<Document, E> {
                Ok(Document::Native(Definitions(Vec::new())))
            }
        }
        deserializer.deserialize_any(TableOrList)
    }
}
