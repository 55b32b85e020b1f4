//! Cuts the elements of one JSON array out of a large answer while it arrives.
//!
//! A list of 100,000 tasks is some 80 MB of text. It is never held as a whole: each app is given on as its own
//! slice as soon as it is complete, and judged by the JSON parser alone, so that an odd app costs only itself.

/// Where the array is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The document is the array.
    Root,
    /// The array is this member of the document, which is an object.
    Member(&'static str),
}

/// Takes a document in chunks of any cut, gives the elements of the array in it.
#[derive(Debug)]
pub(super) struct Elements {
    place: Place,
    len_max: usize,
    /// What was received and is still needed: an element that is not complete, or a member's name.
    held: Vec<u8>,
    /// How much of `held` was looked at.
    seen: usize,
    /// Open brackets, as they must be closed, outermost first.
    open: Vec<u8>,
    string: bool,
    escaped: bool,
    /// Start in `held` of the element or name being read.
    start: Option<usize>,
    /// The last string at the object's own level was the array's name.
    named: bool,
    inside: bool,
    found: bool,
    ended: bool,
}

/// Brackets deeper than this are not a scheduler's answer.
const DEPTH_MAX: usize = 128;

impl Elements {
    /// `len_max` limits a single element, which is held as a whole.
    pub(super) fn new(place: Place, len_max: usize) -> Self {
        Self {
            place,
            len_max,
            held: Vec::new(),
            seen: 0,
            open: Vec::new(),
            string: false,
            escaped: false,
            start: None,
            named: false,
            inside: false,
            found: false,
            ended: false,
        }
    }

    /// Takes the next octets and hands each element that they complete to `give`.
    ///
    /// # Errors
    /// What is wrong with the document. Elements given before stand by themselves.
    pub(super) fn push(&mut self, chunk: &[u8], mut give: impl FnMut(&[u8])) -> Result<(), String> {
        self.held.extend_from_slice(chunk);
        while self.seen < self.held.len() {
            let at = self.seen;
            self.seen += 1;
            let octet = self.held[at];
            if self.string {
                self.in_string(octet, at);
            } else {
                self.outside_string(octet, at, &mut give)?;
            }
        }
        let keep = self.start.unwrap_or(self.held.len());
        if keep > 0 {
            self.held.drain(..keep);
            self.seen -= keep;
            self.start = self.start.map(|_| 0);
        }
        if self.held.len() > self.len_max {
            return Err(format!("one of its elements is larger than {} octets", self.len_max));
        }
        Ok(())
    }

    /// Whether the document is whole.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn finish(&self) -> Result<(), String> {
        match (self.ended, self.found) {
            (true, true) => Ok(()),
            (true, false) => Err(format!("no array {}", self.place_name())),
            (false, _) if self.open.is_empty() => Err("the answer is empty".to_owned()),
            (false, _) => Err("the answer is cut off".to_owned()),
        }
    }

    fn in_string(&mut self, octet: u8, at: usize) {
        if core::mem::take(&mut self.escaped) {
            return;
        }
        match octet {
            b'\\' => self.escaped = true,
            b'"' => {
                self.string = false;
                if let (Place::Member(name), 1, Some(start)) = (self.place, self.open.len(), self.start) {
                    self.named = &self.held[start + 1..at] == name.as_bytes();
                    self.start = None;
                }
            }
            _ => {}
        }
    }

    fn outside_string(&mut self, octet: u8, at: usize, give: &mut impl FnMut(&[u8])) -> Result<(), String> {
        if self.ended {
            return if octet.is_ascii_whitespace() { Ok(()) } else { Err("text after the end".to_owned()) };
        }
        let element_level = self.inside && self.open.len() == self.level();
        match octet {
            b' ' | b'\t' | b'\r' | b'\n' => return Ok(()),
            b',' if element_level => self.end_element(at, give),
            b']' if element_level => {
                self.end_element(at, give);
                self.inside = false;
                self.close(octet)?;
            }
            b'[' | b'{' => self.open_bracket(octet, at)?,
            b']' | b'}' => self.close(octet)?,
            b'"' => {
                self.string = true;
                if self.start.is_none() && (element_level || self.open.len() == 1) {
                    self.start = Some(at);
                }
            }
            _ if self.open.is_empty() => return Err(format!("it is not JSON: begins with {}", shown(octet))),
            b',' => self.named = false,
            _ if element_level && self.start.is_none() => self.start = Some(at),
            _ => {}
        }
        Ok(())
    }

    fn open_bracket(&mut self, octet: u8, at: usize) -> Result<(), String> {
        if self.open.len() >= DEPTH_MAX {
            return Err("nested too deeply".to_owned());
        }
        if self.inside && self.start.is_none() {
            self.start = Some(at);
        }
        let begins = match self.place {
            Place::Root => self.open.is_empty(),
            Place::Member(_) => self.open.len() == 1 && self.named,
        };
        if self.open.is_empty() && octet != if self.place == Place::Root { b'[' } else { b'{' } {
            return Err(format!("begins with {}", shown(octet)));
        }
        if begins && octet == b'[' {
            (self.inside, self.found) = (true, true);
        }
        self.named = false;
        self.open.push(if octet == b'[' { b']' } else { b'}' });
        Ok(())
    }

    fn close(&mut self, octet: u8) -> Result<(), String> {
        if self.open.pop() != Some(octet) {
            return Err(format!("{} where none is open", shown(octet)));
        }
        self.ended = self.open.is_empty();
        Ok(())
    }

    fn end_element(&mut self, at: usize, give: &mut impl FnMut(&[u8])) {
        if let Some(start) = self.start.take() {
            give(&self.held[start..at]);
        }
    }

    fn level(&self) -> usize {
        if self.place == Place::Root { 1 } else { 2 }
    }

    fn place_name(&self) -> &'static str {
        match self.place {
            Place::Root => "at the top",
            Place::Member(name) => name,
        }
    }
}

fn shown(octet: u8) -> String {
    if octet.is_ascii_graphic() { format!("{:?}", char::from(octet)) } else { format!("octet {octet:#04x}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(place: Place, chunks: &[&[u8]]) -> Result<Vec<String>, String> {
        let mut elements = Elements::new(place, 1024);
        let mut all = Vec::new();
        for chunk in chunks {
            elements.push(chunk, |element| all.push(String::from_utf8_lossy(element).trim().to_owned()))?;
        }
        elements.finish().map(|()| all)
    }

    const APPS: Place = Place::Member("apps");

    #[test]
    fn elements_are_found_where_they_are() {
        let table: [(Place, &str, &[&str]); 9] = [
            (APPS, r#"{"apps":[]}"#, &[]),
            (APPS, r#" {"apps" : [ {"a":[1,2]} , {"b":"],}"} ] } "#, &[r#"{"a":[1,2]}"#, r#"{"b":"],}"}"#]),
            (APPS, r#"{"x":{"apps":[1]},"y":["apps",[2]],"apps":[3]}"#, &["3"]),
            (APPS, r#"{"x":"apps","apps":["a","\"b"]}"#, &[r#""a""#, r#""\"b""#]),
            (APPS, r#"{"apps":[null,7,[8]],"n":"]"}"#, &["null", "7", "[8]"]),
            (APPS, r#"{"message":"apps","apps":[1],"more":{}}"#, &["1"]),
            (Place::Root, "[]", &[]),
            (Place::Root, r#"[{"apps":[1]},{}]"#, &[r#"{"apps":[1]}"#, "{}"]),
            (Place::Root, "[ [1,2],\n3 ]\r\n", &["[1,2]", "3"]),
        ];
        for (place, text, wanted) in table {
            assert_eq!(
                cut(place, &[text.as_bytes()]).as_deref(),
                Ok(&*wanted.iter().map(|s| s.to_string()).collect::<Vec<_>>()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        for text in [
            "",
            "  ",
            "<html>",
            "nonsense",
            "[]",
            "null",
            r#"{"message":"no"}"#,
            r#"{"apps":{}}"#,
            r#"{"apps":[{}"#,
            r#"{"apps":[{"a":"#,
            r#"{"apps":[]"#,
            r#"{"apps":[]]"#,
            r#"{"apps":[}]}"#,
            r#"{"apps":[]} x"#,
            "\u{0}\u{1}",
            r#"{"apps":"[]"}"#,
            r#"{"apps":[{"id":"/a"}"#,
        ] {
            assert!(cut(APPS, &[text.as_bytes()]).is_err(), "{text:?} passed for a list");
        }
        let deep = "[".repeat(100_000);
        assert!(cut(Place::Root, &[deep.as_bytes()]).is_err());
    }

    #[test]
    fn an_element_without_end_is_refused_and_a_long_list_is_not() {
        let part = [b'x'; 100];
        let mut elements = Elements::new(APPS, 1024);
        assert_eq!(elements.push(br#"{"apps":["#, |_| ()), Ok(()));
        for _ in 0..100 {
            let element = [b"\"", &part[..], b"\","].concat();
            assert_eq!(elements.push(&element, |_| ()), Ok(()));
        }
        assert_eq!(elements.push(b"\"", |_| ()), Ok(()));
        let pushed = (0..11).try_for_each(|_| elements.push(&part, |_| ()));
        assert_eq!(pushed, Err("one of its elements is larger than 1024 octets".to_owned()));
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_elements(
            texts in prop::collection::vec(r#"[a-z\\"\[\]{},: ]{0,12}"#, 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let document = serde_json::json!({"z": texts, "apps": texts.iter().map(|t| serde_json::json!({"t": t})).collect::<Vec<_>>()});
            let text = document.to_string();
            let octets = text.as_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(octets.len() + 1)).collect();
            at.extend([0, octets.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &octets[pair[0]..pair[1]]).collect();
            let found = cut(APPS, &chunks);
            let wanted = texts.iter().map(|t| serde_json::json!({"t": t}).to_string()).collect::<Vec<_>>();
            prop_assert_eq!(found, Ok(wanted));
        }

        #[test]
        fn no_text_upsets_it(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = cut(APPS, &[&octets]);
            let _ = cut(Place::Root, &[&octets]);
        }
    }
}
