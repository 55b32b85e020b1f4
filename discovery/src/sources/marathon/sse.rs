//! Server-sent events as Marathon writes them: `event:`, `data:`, an empty line; an empty line alone is the
//! heartbeat. (WHATWG HTML §9.2.6; ids and retry times are not used by Marathon.)

use std::collections::VecDeque;

/// One thing that came out of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A whole event.
    Event {
        /// Its type; empty if the frame had none.
        name: String,
        /// Its data lines, joined by line feeds.
        data: Vec<u8>,
    },
    /// An empty line, or a comment: a sign of life.
    Heartbeat,
    /// An event above the size limit was left out: what it said is not known.
    Oversize,
}

/// Takes octets in chunks of any cut and gives whole items. Holds at most one event.
#[derive(Debug)]
pub(super) struct Parser {
    line: Vec<u8>,
    /// The line is above the limit and no longer kept.
    line_over: bool,
    name: String,
    data: Vec<u8>,
    has_data: bool,
    oversize: bool,
    after_cr: bool,
    size_max: usize,
    items: VecDeque<Item>,
}

impl Parser {
    /// A parser that leaves out events whose line or data is larger than `size_max` octets.
    pub(super) fn new(size_max: usize) -> Self {
        Self {
            line: Vec::new(),
            line_over: false,
            name: String::new(),
            data: Vec::new(),
            has_data: false,
            oversize: false,
            after_cr: false,
            size_max,
            items: VecDeque::new(),
        }
    }

    /// Takes the next octets of the stream.
    pub(super) fn push(&mut self, mut chunk: &[u8]) {
        while let Some(&first) = chunk.first() {
            if core::mem::take(&mut self.after_cr) && first == b'\n' {
                chunk = &chunk[1..];
                continue;
            }
            let end = chunk.iter().position(|&octet| octet == b'\n' || octet == b'\r');
            let text = &chunk[..end.unwrap_or(chunk.len())];
            self.line_over |= self.line.len() + text.len() > self.size_max;
            if !self.line_over {
                self.line.extend_from_slice(text);
            }
            let Some(end) = end else { return };
            self.after_cr = chunk[end] == b'\r';
            chunk = &chunk[end + 1..];
            self.end_line();
        }
    }

    /// The next item, oldest first.
    pub(super) fn next(&mut self) -> Option<Item> {
        self.items.pop_front()
    }

    fn end_line(&mut self) {
        let line = core::mem::take(&mut self.line);
        if core::mem::take(&mut self.line_over) {
            self.oversize = true;
            return;
        }
        if line.is_empty() {
            return self.dispatch();
        }
        let colon = line.iter().position(|&octet| octet == b':');
        let (field, value) = match colon {
            Some(0) => return self.items.push_back(Item::Heartbeat),
            Some(at) => (&line[..at], line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..])),
            None => (&line[..], &[][..]),
        };
        match field.strip_prefix(b"\xef\xbb\xbf").unwrap_or(field) {
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            b"data" if self.data.len() + value.len() > self.size_max => self.oversize = true,
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
                self.has_data = true;
            }
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        let name = core::mem::take(&mut self.name);
        let data = core::mem::take(&mut self.data);
        let has_data = core::mem::take(&mut self.has_data);
        self.items.push_back(if core::mem::take(&mut self.oversize) {
            Item::Oversize
        } else if has_data {
            Item::Event { name, data }
        } else {
            Item::Heartbeat
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(chunks: &[&[u8]], size_max: usize) -> Vec<Item> {
        let mut parser = Parser::new(size_max);
        for chunk in chunks {
            parser.push(chunk);
        }
        core::iter::from_fn(|| parser.next()).collect()
    }

    fn event(name: &str, data: &str) -> Item {
        Item::Event { name: name.to_owned(), data: data.as_bytes().to_vec() }
    }

    #[test]
    fn frames_are_read_whatever_ends_their_lines() {
        for end in ["\n", "\r\n", "\r"] {
            let text = format!("event: a{end}data: 1{end}{end}{end}data:2{end}data: 3{end}{end}: ping{end}");
            let items = parse(&[text.as_bytes()], 100);
            assert_eq!(
                items,
                [event("a", "1"), Item::Heartbeat, event("", "2\n3"), Item::Heartbeat],
                "lines ending in {end:?}"
            );
        }
    }

    #[test]
    fn an_event_that_is_cut_off_is_not_given() {
        assert_eq!(parse(&[b"event: a\r\ndata: {\"x\":1}\r\n"], 100), []);
    }

    #[test]
    fn an_oversize_event_is_left_out_alone() {
        let text = format!("data: {}\n\ndata: small\n\ndata: {0}\ndata: {0}\n\ndata: b\n\n", "x".repeat(40));
        assert_eq!(
            parse(&[text.as_bytes()], 30),
            [Item::Oversize, event("", "small"), Item::Oversize, event("", "b")]
        );
        let joined = format!("data: {0}\ndata: {0}\n\ndata: b\n\n", "x".repeat(20));
        assert_eq!(parse(&[joined.as_bytes()], 30), [Item::Oversize, event("", "b")]);
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_items(
            text in "(event: ?[a-c]{0,3}|data: ?[a-z{}]{0,9}|:|x|\r|\n|\r\n|\r\n\r\n){0,40}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
            size_max in 4usize..40,
        ) {
            let octets = text.as_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(octets.len() + 1)).collect();
            at.extend([0, octets.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &octets[pair[0]..pair[1]]).collect();
            prop_assert_eq!(parse(&chunks, size_max), parse(&[octets], size_max));
        }
    }
}
