//! The two tables of RFC 7541 §2.3: the static one, and the dynamic one of a decoder.

use std::collections::VecDeque;

/// RFC 7541 appendix A, from index 1 on.
#[rustfmt::skip]
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""),
    ("content-length", ""), ("content-location", ""), ("content-range", ""), ("content-type", ""),
    ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
    ("via", ""), ("www-authenticate", ""),
];

/// What an entry counts beside its octets (§4.1).
pub(super) const OVERHEAD: usize = 32;

/// The index of a field name in the static table; 0 for none. By length first: most names differ there.
pub(super) fn static_name(name: &[u8]) -> u8 {
    let candidates: &[u8] = match name.len() {
        3 => &[21, 60],
        4 => &[33, 34, 37, 38, 45, 59],
        5 => &[22, 50],
        6 => &[19, 32, 35, 54],
        7 => &[36, 51, 52],
        8 => &[39, 42, 46],
        10 => &[55, 58],
        11 => &[53],
        12 => &[31, 47],
        13 => &[18, 23, 24, 30, 41, 44],
        14 => &[15, 28],
        15 => &[16, 17],
        16 => &[26, 27, 29, 61],
        17 => &[40, 57],
        18 => &[48],
        19 => &[25, 43, 49],
        25 => &[56],
        27 => &[20],
        _ => &[],
    };
    candidates
        .iter()
        .copied()
        .find(|&index| STATIC[usize::from(index) - 1].0.as_bytes() == name)
        .unwrap_or_default()
}

/// The dynamic table of a decoder. Octets lie in one allocation, made when the first entry comes.
#[derive(Debug)]
pub(super) struct Dynamic {
    octets: Vec<u8>,
    /// The newest first.
    entries: VecDeque<Entry>,
    /// By the measure of §4.1.
    size: usize,
    size_max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u32,
    name: u32,
    value: u32,
}

impl Entry {
    const fn size(self) -> usize {
        self.name as usize + self.value as usize + OVERHEAD
    }

    const fn end(self) -> usize {
        self.start as usize + self.name as usize + self.value as usize
    }
}

impl Dynamic {
    pub(super) const fn new(size_max: usize) -> Self {
        Self { octets: Vec::new(), entries: VecDeque::new(), size: 0, size_max }
    }

    /// §4.3: a smaller table loses its oldest entries.
    pub(super) fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict(0);
    }

    /// Name and value of an entry, the newest being number 0.
    pub(super) fn entry(&self, at: usize) -> Option<(&[u8], &[u8])> {
        let entry = self.entries.get(at)?;
        Some(self.octets[entry.start as usize..entry.end()].split_at(entry.name as usize))
    }

    /// §4.4: an entry larger than the table empties it, and is not an error.
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + OVERHEAD;
        self.evict(size);
        if size > self.size_max {
            return;
        }
        if self.octets.len() + size > 2 * self.size_max {
            self.compact();
        }
        let entry =
            Entry { start: self.octets.len() as u32, name: name.len() as u32, value: value.len() as u32 };
        self.octets.extend_from_slice(name);
        self.octets.extend_from_slice(value);
        self.entries.push_front(entry);
        self.size += size;
    }

    /// Makes room for `size` more.
    fn evict(&mut self, size: usize) {
        while self.size + size > self.size_max {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size();
        }
        if self.entries.is_empty() {
            self.octets.clear();
        }
    }

    /// Entries lie one behind the other in the order they came: those that left are in front.
    fn compact(&mut self) {
        let Some(first) = self.entries.back().map(|oldest| oldest.start as usize) else {
            self.octets.clear();
            return;
        };
        self.octets.drain(..first);
        for entry in &mut self.entries {
            entry.start -= first as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_static_name_is_found_at_its_first_place() {
        for (name, _) in STATIC.iter().filter(|(name, _)| !name.starts_with(':')) {
            let first = STATIC.iter().position(|(other, _)| other == name).unwrap() + 1;
            assert_eq!(usize::from(static_name(name.as_bytes())), first, "{name}");
        }
        for name in [":status", "x-none", "hosts", ""] {
            assert_eq!(static_name(name.as_bytes()), 0);
        }
    }

    #[test]
    fn rfc7541_4_4_the_oldest_leave_first_and_a_huge_entry_empties_the_table() {
        let mut table = Dynamic::new(3 * (OVERHEAD + 2));
        for name in [b"a", b"b", b"c", b"d"] {
            table.insert(name, b"1");
        }
        assert_eq!(table.entry(0), Some((&b"d"[..], &b"1"[..])));
        assert_eq!(table.entry(2), Some((&b"b"[..], &b"1"[..])));
        assert_eq!(table.entry(3), None);
        table.resize(OVERHEAD + 2);
        assert_eq!((table.entry(0).is_some(), table.entry(1)), (true, None));
        table.insert(&[b'x'; 100], b"");
        assert_eq!(table.entry(0), None);
        assert_eq!(table.size, 0);
    }

    #[test]
    fn octets_stay_bounded_whatever_comes() {
        let mut table = Dynamic::new(4096);
        for at in 0..10_000_u32 {
            table.insert(b"name", format!("{at}").repeat((at % 40) as usize).as_bytes());
            assert!(table.octets.len() <= 2 * 4096 && table.size <= 4096);
        }
        let (name, value) = table.entry(0).unwrap();
        assert_eq!((name, value), (&b"name"[..], "9999".repeat(39).as_bytes()));
    }
}
