//! Mistakes in a configuration file: where, what, and what to do about it.

use core::fmt::{self, Write as _};
use core::ops::Range;
use std::error::Error;

use crate::section::Found;

/// One mistake. Displays as `FILE:LINE:COLUMN: message; hint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file as it was named by the caller.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, with the offending word in quotes. Never holds a secret.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    excerpt: Option<Excerpt>,
}

/// The line of a mistake, or the piece of it around the place, for a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    line: String,
    /// Characters before the marked ones.
    start: usize,
    /// Characters marked; at least one.
    width: usize,
}

/// All mistakes of a file, in the order of their positions. Displays one per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    list: Vec<Mistake>,
    omitted: usize,
}

/// Mistakes told at once; a file with more is not read by a person anyway.
pub const MISTAKES_MAX: usize = 200;

/// Longest piece of a source line in a picture, in characters.
const PICTURE_WIDTH_MAX: usize = 100;

impl Mistake {
    /// A mistake of a whole file, such as one that cannot be read: line 1, column 1, no picture.
    #[must_use]
    pub fn of_file(file: &str, message: String, hint: Option<String>) -> Self {
        Self { file: file.to_owned(), line: 1, column: 1, message, hint, excerpt: None }
    }
}

impl Mistakes {
    /// The mistakes, [`MISTAKES_MAX`] at most.
    #[must_use]
    pub fn list(&self) -> &[Mistake] {
        &self.list
    }

    /// How many more there are.
    #[must_use]
    pub const fn omitted(&self) -> usize {
        self.omitted
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Self {
        Self { list: vec![mistake], omitted: 0 }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(render(&self.list, false).trim_end())?;
        match self.omitted {
            0 => Ok(()),
            omitted => write!(f, "\n{omitted} more mistakes are not shown"),
        }
    }
}

impl Error for Mistake {}
impl Error for Mistakes {}

/// The mistakes as text, one per line, each line ended; with the source line and a marker below each when the
/// text goes to a `terminal`. Lines that may hold a secret are never pictured.
#[must_use]
pub fn render(mistakes: &[Mistake], terminal: bool) -> String {
    let mut text = String::new();
    for mistake in mistakes {
        let _ = writeln!(text, "{mistake}");
        if let (true, Some(excerpt)) = (terminal, &mistake.excerpt) {
            picture(&mut text, mistake.line, excerpt);
        }
    }
    text
}

fn picture(text: &mut String, number: usize, excerpt: &Excerpt) {
    let line: String = excerpt
        .line
        .chars()
        .map(|c| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    // Tabs are kept, so that the marker stands right whatever their width is.
    let before = line.chars().take(excerpt.start).map(|c| if c == '\t' { '\t' } else { ' ' });
    let marker: String = before.chain(core::iter::repeat_n('^', excerpt.width)).collect();
    let number = number.to_string();
    let margin = " ".repeat(number.len());
    let _ = writeln!(text, "{margin} |\n{number} | {line}\n{margin} | {marker}");
}

/// Turns byte offsets into lines and columns.
pub(crate) struct Positions<'t> {
    file: &'t str,
    text: &'t str,
    line_starts: Vec<usize>,
}

impl<'t> Positions<'t> {
    pub(crate) fn new(file: &'t str, text: &'t str) -> Self {
        let line_starts = core::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file, text, line_starts }
    }

    /// Index of the line (from 0) that holds the byte at `offset`.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// Where the line of `offset` starts.
    pub(crate) fn line_start(&self, offset: usize) -> usize {
        self.line_starts.get(self.line_of(offset)).copied().unwrap_or(0)
    }

    /// True when the line of `offset` opens a table.
    pub(crate) fn line_is_header(&self, offset: usize) -> bool {
        self.text[self.line_start(offset)..].trim_start_matches([' ', '\t']).starts_with('[')
    }

    /// True when the line of `offset` is better not repeated.
    pub(crate) fn may_hold_secret(&self, offset: usize) -> bool {
        may_hold_secret(self.text[self.line_start(offset)..].lines().next().unwrap_or(""))
    }

    /// The text of `span`.
    pub(crate) fn slice(&self, span: &Range<usize>) -> &'t str {
        let start = self.boundary(span.start);
        &self.text[start..self.boundary(span.end.max(start)).max(start)]
    }

    /// The first [`MISTAKES_MAX`] of `found`, which is in order, and the count of the others.
    pub(crate) fn mistakes(&self, mut found: Vec<Found>) -> Mistakes {
        let omitted = found.len().saturating_sub(MISTAKES_MAX);
        found.truncate(MISTAKES_MAX);
        let list = found.into_iter().map(|one| self.mistake(&one.span, one.message, one.hint)).collect();
        Mistakes { list, omitted }
    }

    pub(crate) fn mistake(&self, span: &Range<usize>, message: String, hint: Option<String>) -> Mistake {
        let offset = self.boundary(span.start);
        let line_start = self.line_start(offset);
        // A byte order mark is no character of the first line.
        let before = self.text[line_start..offset].trim_start_matches('\u{feff}');
        Mistake {
            file: self.file.to_owned(),
            line: self.line_of(offset) + 1,
            column: before.chars().count() + 1,
            message,
            hint,
            excerpt: self.excerpt(line_start, before, self.slice(span)),
        }
    }

    /// The piece of the line around `marked`, unless it is better not shown.
    fn excerpt(&self, line_start: usize, before: &str, marked: &str) -> Option<Excerpt> {
        /// Longer lines are not written by people.
        const LINE_LEN_MAX: usize = 4096;
        let line = self.text[line_start..].lines().next().unwrap_or("").trim_start_matches('\u{feff}');
        if line.len() > LINE_LEN_MAX || may_hold_secret(line) {
            return None;
        }
        let marked = marked.lines().next().unwrap_or("").chars().count().max(1);
        let column = before.chars().count();
        // A long line is shown from a little before the marked place.
        let skipped = if column + marked > PICTURE_WIDTH_MAX { column.saturating_sub(20) } else { 0 };
        let start = column - skipped;
        let line = line.chars().skip(skipped).take(PICTURE_WIDTH_MAX).collect();
        Some(Excerpt { line, start, width: marked.min(PICTURE_WIDTH_MAX - start.min(PICTURE_WIDTH_MAX - 1)) })
    }

    /// The nearest character boundary at or before `offset`.
    fn boundary(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

/// True for a line that is better not repeated: a secret written out, or a URL with credentials.
fn may_hold_secret(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    lower.contains('@')
        || ["password", "token", "secret", "private_key"].iter().any(|word| {
            lower.match_indices(word).any(|(at, _)| {
                let rest = &lower[at + word.len()..];
                // Behind `_env` a secret may stand by mistake; behind `_file` a path is what helps.
                !rest.starts_with("_file")
            })
        })
}
