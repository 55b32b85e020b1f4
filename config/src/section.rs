//! One table of the file, read key by key; what is wrong is noted with its place and reading goes on.

use core::cell::RefCell;
use core::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::certificate::NeededCertificate;
use crate::environment::Environment;
use crate::keys::Keys;
use crate::suggest::suggestion;
use crate::upstream_tls::NeededUpstreamTls;
use crate::value::{Parsed, Wrong, shown, text};

/// A value and where it stands, in bytes of the file.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

impl<T> At<Vec<At<T>>> {
    /// The values alone.
    pub(crate) fn into_values(self) -> Vec<T> {
        self.value.into_iter().map(|at| at.value).collect()
    }
}

/// A mistake before its offset is turned into line and column.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// About something that is absent or about two places: means nothing while the syntax is broken.
    pub(crate) whole: bool,
}

/// Mistakes kept at all; far more than are shown, since they are not found in the order of the file.
const FOUND_MAX: usize = 10_000;

/// Something outside the file that must be there; looked at only when asked.
#[derive(Debug)]
pub(crate) enum Needed {
    File { key: String, path: At<PathBuf> },
    Variable { key: String, name: At<String> },
    Certificate(NeededCertificate),
    UpstreamTls(NeededUpstreamTls),
}

/// One reading of a file: its surroundings, and what is noted on the way.
#[derive(Debug)]
pub(crate) struct Reading<'e> {
    pub(crate) environment: &'e Environment,
    /// The directory of the file, from which relative paths start.
    base: &'e Path,
    pub(crate) found: RefCell<Vec<Found>>,
    pub(crate) needed: RefCell<Vec<Needed>>,
}

impl<'e> Reading<'e> {
    pub(crate) fn new(environment: &'e Environment, file: &'e str) -> Self {
        let base = Path::new(file).parent().unwrap_or(Path::new(""));
        Self { environment, base, found: RefCell::default(), needed: RefCell::default() }
    }

    fn note(&self, span: &Range<usize>, message: String, hint: Option<String>, whole: bool) {
        let mut found = self.found.borrow_mut();
        if found.len() < FOUND_MAX {
            found.push(Found { span: span.clone(), message, hint, whole });
        }
    }

    /// A path of the file as the process can use it: a relative one starts at the file's directory.
    pub(crate) fn placed(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    /// A mistake of one place.
    pub(crate) fn mistake(&self, span: &Range<usize>, message: String, hint: impl Into<String>) {
        self.note(span, message, Some(hint.into()), false);
    }

    /// A mistake of two places, or of an absence.
    pub(crate) fn conflict(&self, span: &Range<usize>, message: String, hint: impl Into<String>) {
        self.note(span, message, Some(hint.into()), true);
    }
}

/// A table with its known keys.
#[derive(Debug, Clone)]
pub(crate) struct Section<'a> {
    pub(crate) reading: &'a Reading<'a>,
    keys: &'static Keys,
    table: &'a DeTable<'a>,
    span: Range<usize>,
}

impl<'a> Section<'a> {
    /// Refuses the keys that `keys` does not hold.
    pub(crate) fn new(
        reading: &'a Reading<'a>,
        keys: &'static Keys,
        table: &'a DeTable<'a>,
        span: Range<usize>,
    ) -> Self {
        let section = Self { reading, keys, table, span };
        for key in table.keys().filter(|key| !keys.holds(key.get_ref())) {
            section.unknown(key);
        }
        section
    }

    /// Where the section is opened.
    pub(crate) fn span(&self) -> &Range<usize> {
        &self.span
    }

    fn unknown(&self, key: &Spanned<toml::de::DeString<'_>>) {
        let word: &str = key.get_ref();
        let place = self.keys.title;
        if let Some((_, hint)) = self.keys.instead.iter().find(|(known, _)| *known == word) {
            return self.reading.mistake(&key.span(), format!("{word:?} is not a key of {place}"), *hint);
        }
        if self.keys.later.contains(&word) {
            return self.reading.note(
                &key.span(),
                format!("{word:?} in {place} is not supported by this version"),
                None,
                false,
            );
        }
        const LIST_MAX: usize = 8;
        let known: Vec<&str> = self.keys.names().collect();
        let near = suggestion(word, known.iter().copied()).map(|near| format!("did you mean {near:?}?"));
        let all =
            (known.len() <= LIST_MAX || near.is_none()).then(|| format!("allowed: {}", known.join(", ")));
        let hint = [near, all].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let word = crate::value::quoted(word);
        self.reading.mistake(&key.span(), format!("unknown key {word} in {place}"), hint);
    }

    fn entry(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        debug_assert!(self.keys.holds(key), "{key} is missing from the keys of {}", self.keys.title);
        self.table.get(key)
    }

    /// Where `key` itself is written.
    pub(crate) fn key_span(&self, key: &str) -> Option<Range<usize>> {
        self.table.get_key_value(key).map(|(key, _)| key.span())
    }

    /// True when the key is there, whatever its value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The text of `key` as written, right or wrong; what follows up on a mistake goes by it.
    pub(crate) fn raw_text(&self, key: &str) -> Option<&'a str> {
        self.entry(key)?.get_ref().as_str()
    }

    /// A name with its place: the checked one, else as written, else `default` where `key` would stand.
    pub(crate) fn name_or(
        &self,
        key: &str,
        default: &str,
        parse: impl Fn(&DeValue<'_>) -> Parsed<Arc<str>>,
    ) -> At<Arc<str>> {
        self.at(key, parse).unwrap_or_else(|| At {
            value: self.raw_text(key).unwrap_or(default).into(),
            span: self.place_of(key),
        })
    }

    /// Where `key` is written, or the section that lacks it.
    pub(crate) fn place_of(&self, key: &str) -> Range<usize> {
        self.key_span(key).unwrap_or_else(|| self.span.clone())
    }

    /// True when the value of `key` is this text.
    pub(crate) fn is_text(&self, key: &str, text: &str) -> bool {
        self.raw_text(key) == Some(text)
    }

    /// The keys that are there, with their places.
    pub(crate) fn present(&self) -> impl Iterator<Item = (&'a str, Range<usize>)> {
        self.table.keys().map(|key| (key.get_ref().as_ref(), key.span()))
    }

    /// The value of `key` with its place; `None` when it is absent or (noted) wrong.
    pub(crate) fn at<T>(&self, key: &str, parse: impl Fn(&DeValue<'_>) -> Parsed<T>) -> Option<At<T>> {
        self.element(key, self.entry(key)?, parse)
    }

    /// The value of `key`; `None` when it is absent or (noted) wrong.
    pub(crate) fn read<T>(&self, key: &str, parse: impl Fn(&DeValue<'_>) -> Parsed<T>) -> Option<T> {
        self.at(key, parse).map(|at| at.value)
    }

    /// As [`Section::at`]; an absent key is a mistake.
    pub(crate) fn required<T>(
        &self,
        key: &str,
        hint: &str,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<At<T>> {
        if !self.has(key) {
            self.missing(key, hint);
        }
        self.at(key, parse)
    }

    /// Notes that `key` should be there.
    pub(crate) fn missing(&self, key: &str, hint: &str) {
        // Somebody who wrote `password` has been told to write `password_file` already.
        let told = |(word, hint): &(&str, &str)| hint.contains(key) && self.table.contains_key(*word);
        if self.keys.instead.iter().any(told) {
            return;
        }
        self.reading.conflict(&self.span, format!("{key:?} is missing in {}", self.keys.title), hint);
    }

    fn element<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<At<T>> {
        match parse(value.get_ref()) {
            Ok(parsed) => Some(At { value: parsed, span: value.span() }),
            Err(Wrong { message, hint }) => {
                self.reading.note(&value.span(), format!("{key}: {message}"), hint, false);
                None
            }
        }
    }

    /// A list of at most `max` elements; those that are (noted) wrong are left out.
    pub(crate) fn list<T>(
        &self,
        key: &str,
        max: usize,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<At<Vec<At<T>>>> {
        let value = self.entry(key)?;
        let DeValue::Array(elements) = value.get_ref() else {
            let hint = match value.get_ref() {
                DeValue::String(_) => "put it in brackets: [\"…\"]".to_owned(),
                _ => "write [\"…\", \"…\"]".to_owned(),
            };
            self.reading.mistake(
                &value.span(),
                format!("{key}: {} is not a list", shown(value.get_ref())),
                hint,
            );
            return None;
        };
        if elements.len() > max {
            self.reading.mistake(
                &value.span(),
                format!("{key}: {} elements are too many", elements.len()),
                format!("at most {max}"),
            );
        }
        let parsed = elements.iter().take(max).filter_map(|element| self.element(key, element, &parse));
        Some(At { value: parsed.collect(), span: value.span() })
    }

    /// A list, or one element without brackets.
    pub(crate) fn list_or_one<T>(
        &self,
        key: &str,
        max: usize,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<At<Vec<At<T>>>> {
        let value = self.entry(key)?;
        if !value.get_ref().is_array() {
            let one = self.element(key, value, parse);
            return Some(At { value: one.into_iter().collect(), span: value.span() });
        }
        self.list(key, max, parse)
    }

    /// The values of a list without their places; empty when absent.
    pub(crate) fn values<T>(
        &self,
        key: &str,
        max: usize,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Vec<T> {
        self.list(key, max, parse).map_or_else(Vec::new, At::into_values)
    }

    /// The values of a list that must be there and not be empty.
    pub(crate) fn required_list<T>(
        &self,
        key: &str,
        hint: &str,
        max: usize,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Vec<T> {
        if !self.has(key) {
            self.missing(key, hint);
        }
        self.refuse_empty_list(key, hint);
        self.values(key, max, parse)
    }

    /// Notes a list without elements.
    pub(crate) fn refuse_empty_list(&self, key: &str, hint: &str) {
        let Some(value) = self.entry(key) else { return };
        if value.get_ref().as_array().is_some_and(|elements| elements.is_empty()) {
            self.reading.mistake(&value.span(), format!("{key}: the list is empty"), hint);
        }
    }

    /// A path; a relative one starts at the file's directory.
    pub(crate) fn path(&self, key: &str) -> Option<At<PathBuf>> {
        self.at(key, |value| text(value).map(|path| self.reading.placed(&path)))
    }

    /// [`Section::path`] of a file that must be there.
    pub(crate) fn existing_file(&self, key: &str) -> Option<PathBuf> {
        let path = self.path(key)?;
        let needed = Needed::File { key: key.to_owned(), path: path.clone() };
        self.reading.needed.borrow_mut().push(needed);
        Some(path.value)
    }

    /// The table under `key`, whose keys are free.
    pub(crate) fn free_table(&self, key: &str) -> Option<&'a DeTable<'a>> {
        let value = self.entry(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            let message = format!("{key}: {} is not a table", shown(value.get_ref()));
            self.reading.mistake(&value.span(), message, format!("write {key} = {{ NAME = \"VALUE\" }}"));
        }
        table
    }

    /// The table under `key`.
    pub(crate) fn section(&self, key: &str, keys: &'static Keys) -> Option<Self> {
        let value = self.entry(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Section::new(self.reading, keys, table, value.span())),
            other => {
                let message = format!("{key}: {} is not a table", shown(other));
                self.reading.mistake(&value.span(), message, format!("write it once, as {}", keys.title));
                None
            }
        }
    }

    /// The tables of the list under `key`, `max` at most.
    pub(crate) fn sections(&self, key: &str, keys: &'static Keys, max: usize) -> Vec<Self> {
        let Some(value) = self.entry(key) else { return Vec::new() };
        let DeValue::Array(elements) = value.get_ref() else {
            let message = format!("{key}: {} is not a list of tables", shown(value.get_ref()));
            self.reading.mistake(&value.span(), message, format!("write it as {}", keys.title));
            return Vec::new();
        };
        if elements.len() > max {
            let message = format!("{key}: {} are too many", elements.len());
            self.reading.mistake(&value.span(), message, format!("at most {max}"));
        }
        let mut sections = Vec::with_capacity(elements.len().min(max));
        for element in elements.iter().take(max) {
            match element.get_ref() {
                DeValue::Table(table) => {
                    sections.push(Section::new(self.reading, keys, table, element.span()));
                }
                other => {
                    let message = format!("{key}: {} is not a table", shown(other));
                    self.reading.mistake(&element.span(), message, format!("write it as {}", keys.title));
                }
            }
        }
        sections
    }
}
