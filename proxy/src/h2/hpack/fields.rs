//! A decoded header list: all of it in one piece of memory that is used again.

use super::table::OVERHEAD;

/// A list this many times too large is not read to its end.
const BOMB: usize = 4;

/// Names and values in the order they came.
#[derive(Debug)]
pub(crate) struct Fields {
    text: Vec<u8>,
    places: Vec<Place>,
    /// By the measure of RFC 9113 §6.5.2, with what was left out.
    size: usize,
    size_max: usize,
    count_max: usize,
    is_too_large: bool,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    name: u32,
    value: u32,
    end: u32,
}

impl Fields {
    /// A list of at most so much; what is beyond is left out, and [`is_too_large`](Self::is_too_large) says so.
    pub(crate) const fn new(size_max: usize, count_max: usize) -> Self {
        Self { text: Vec::new(), places: Vec::new(), size: 0, size_max, count_max, is_too_large: false }
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.places.clear();
        self.size = 0;
        self.is_too_large = false;
    }

    /// Empties it, and gives the storage back.
    pub(crate) fn rest(&mut self) {
        self.clear();
        (self.text, self.places) = (Vec::new(), Vec::new());
    }

    /// The list was larger than allowed: what is here is not all of it.
    pub(crate) const fn is_too_large(&self) -> bool {
        self.is_too_large
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.places.iter().map(|place| {
            let (name, value, end) = (place.name as usize, place.value as usize, place.end as usize);
            (&self.text[name..value], &self.text[value..end])
        })
    }

    /// The list is so much larger than allowed that nobody means it.
    pub(super) const fn is_bomb(&self) -> bool {
        self.size > self.size_max.saturating_mul(BOMB)
    }

    pub(super) fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// The octets from `name` to the end are a field whose value begins at `value`.
    pub(super) fn close(&mut self, name: usize, value: usize) {
        let end = self.text.len();
        if self.admits(end - name) {
            self.places.push(Place { name: name as u32, value: value as u32, end: end as u32 });
        } else {
            self.text.truncate(name);
        }
    }

    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) {
        if self.admits(name.len() + value.len()) {
            let start = self.text.len();
            self.text.extend_from_slice(name);
            self.text.extend_from_slice(value);
            let (value, end) = (start + name.len(), self.text.len());
            self.places.push(Place { name: start as u32, value: value as u32, end: end as u32 });
        }
    }

    fn admits(&mut self, length: usize) -> bool {
        self.size = self.size.saturating_add(length + OVERHEAD);
        self.is_too_large |= self.size > self.size_max || self.places.len() >= self.count_max;
        !self.is_too_large
    }
}
