//! The SOA serial: Unix seconds at least, advanced at most once a second, never back.
//!
//! A file in the state directory holds a mark that the serial has not passed. It is moved ahead a minute at
//! a time, so that even a storm of changes writes once a minute; a restart begins at the mark, at most a
//! minute ahead of the clock. Without the file (or with a broken one) the clock alone decides.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How far the mark is set ahead, in seconds.
const AHEAD: u32 = 60;
const FILE: &str = "dns-serial";

/// Gives out serials.
#[derive(Debug)]
pub(crate) struct Serial {
    last: u32,
    /// Second in which `last` was given out.
    second: u64,
    mark: u32,
    path: Option<PathBuf>,
}

impl Serial {
    /// Reads the mark; an error tells that it could not be, and serials start from the clock.
    pub(crate) fn open(state_dir: Option<&Path>) -> (Self, io::Result<()>) {
        let path = state_dir.map(|dir| dir.join(FILE));
        let (mark, read) = match path.as_deref().map(read_mark) {
            None => (0, Ok(())),
            Some(Ok(mark)) => (mark, Ok(())),
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => (0, Ok(())),
            Some(Err(error)) => (0, Err(error)),
        };
        (Self { last: mark, second: 0, mark, path }, read)
    }

    /// The serial for a zone that changed at `now` (Unix seconds). An error tells that the mark could not be
    /// kept; the serial is good all the same.
    pub(crate) fn advance(&mut self, now: u64) -> (u32, io::Result<()>) {
        // A 32-bit count of seconds ends in 2106; RFC 1982 arithmetic goes on from there.
        let clock = now as u32;
        if now != self.second || self.last == 0 {
            // Before the first there is nothing to be ahead of, and half of all clocks are not ahead of 0.
            let free = self.last == 0 || ahead_of(clock, self.last);
            self.last = if free { clock.max(1) } else { self.last.wrapping_add(1) };
            self.second = now;
        }
        let kept = if self.mark == 0 || ahead_of(self.last, self.mark) { self.keep() } else { Ok(()) };
        (self.last, kept)
    }

    fn keep(&mut self) -> io::Result<()> {
        self.mark = self.last.wrapping_add(AHEAD);
        let Some(path) = &self.path else { return Ok(()) };
        let aside = path.with_extension("new");
        let mut file = std::fs::File::create(&aside)?;
        writeln!(file, "{}", self.mark)?;
        drop(file);
        std::fs::rename(&aside, path)
    }
}

/// Serial arithmetic (RFC 1982 §3.2): true if `a` comes after `b`.
fn ahead_of(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

fn read_mark(path: &Path) -> io::Result<u32> {
    let text = std::fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the serial is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_follows_the_clock_once_a_second_and_never_goes_back() {
        let mut serial = Serial::open(None).0;
        assert_eq!(serial.advance(1000).0, 1000);
        assert_eq!(serial.advance(1000).0, 1000, "once a second");
        assert_eq!(serial.advance(1001).0, 1001);
        assert_eq!(serial.advance(500).0, 1002, "the clock jumped back");
        assert_eq!(serial.advance(2000).0, 2000);
    }

    #[test]
    fn the_first_serial_is_the_clock_beyond_2038_too() {
        let later = 1 << 31;
        let dir = tempfile::tempdir().unwrap();
        let mut serial = Serial::open(Some(dir.path())).0;
        assert_eq!(serial.advance(later + 5).0, (later + 5) as u32);
        assert_eq!(read_mark(&dir.path().join(FILE)).unwrap(), (later + 65) as u32);
    }

    #[test]
    fn a_restart_begins_at_the_mark_even_if_the_clock_jumped_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Serial::open(Some(dir.path())).0;
        let given = first.advance(5000).0;
        let (mut second, read) = Serial::open(Some(dir.path()));
        read.unwrap();
        assert!(ahead_of(second.advance(10).0, given));
    }

    #[test]
    fn a_broken_mark_is_reported_and_serving_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "no number").unwrap();
        let (mut serial, read) = Serial::open(Some(dir.path()));
        assert!(read.is_err());
        assert_eq!(serial.advance(7000).0, 7000);
        let (mut lost, _) = Serial::open(Some(Path::new("/dev/null/nowhere")));
        let (number, kept) = lost.advance(7000);
        assert_eq!(number, 7000);
        assert!(kept.is_err());
    }
}
