//! The SOA serial: Unix seconds at least, another one for every content, never back.
//!
//! Two contents under one serial would leave a secondary with the older of the two, so the serial may run ahead
//! of the clock in a storm of changes. A file in the state directory holds a mark that it has not passed. The mark
//! is moved ahead by [`AHEAD`], so that a storm writes it once in many seconds; a restart begins at the mark.
//! Without the file (or with a broken one) the clock alone decides, and secondaries may have to be told to
//! transfer anew.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How far the mark is set ahead: changes come at most 200 times a second (they are gathered for 5 ms), which is
/// one write in twenty seconds.
const AHEAD: u32 = 4096;
const FILE: &str = "dns-serial";

/// Gives out serials.
#[derive(Debug)]
pub(crate) struct Serial {
    last: u32,
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
        (Self { last: mark, mark, path }, read)
    }

    /// The serial for a zone that changed at `now` (Unix seconds). An error tells that the mark could not be
    /// kept; the serial is good all the same.
    pub(crate) fn advance(&mut self, now: u64) -> (u32, io::Result<()>) {
        // A 32-bit count of seconds ends in 2106; RFC 1982 arithmetic goes on from there.
        let clock = now as u32;
        // Before the first there is nothing to be ahead of, and half of all clocks are not ahead of 0.
        let free = self.last == 0 || ahead_of(clock, self.last);
        // Never 0: it stands for "none yet" here, and some secondaries take it so too.
        self.last = if free { clock } else { self.last.wrapping_add(1) }.max(1);
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
pub(crate) fn ahead_of(a: u32, b: u32) -> bool {
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
    fn a_serial_follows_the_clock_and_is_another_one_each_time() {
        let mut serial = Serial::open(None).0;
        assert_eq!(serial.advance(1000).0, 1000);
        assert_eq!(serial.advance(1000).0, 1001, "another content in the same second");
        assert_eq!(serial.advance(1001).0, 1002);
        assert_eq!(serial.advance(500).0, 1003, "the clock jumped back");
        assert_eq!(serial.advance(2000).0, 2000);
    }

    #[test]
    fn the_first_serial_is_the_clock_beyond_2038_too() {
        let later = 1 << 31;
        let dir = tempfile::tempdir().unwrap();
        let mut serial = Serial::open(Some(dir.path())).0;
        assert_eq!(serial.advance(later + 5).0, (later + 5) as u32);
        assert_eq!(read_mark(&dir.path().join(FILE)).unwrap(), (later + 5) as u32 + AHEAD);
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
