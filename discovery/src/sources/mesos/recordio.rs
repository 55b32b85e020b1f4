//! RecordIO: a decimal length, a line feed, that many octets; over and over. Where the transport cuts it means nothing.

use bytes::{Bytes, BytesMut};

/// Digits of a length: 64 bits have no more.
const DIGITS_MAX: usize = 20;

/// Takes a stream apart into records.
#[derive(Debug)]
pub(super) struct Records {
    held: BytesMut,
    /// The length of the record that is arriving, once that is known.
    length: Option<usize>,
    length_max: usize,
}

impl Records {
    /// Refuses records above `length_max` octets. The first is a whole cluster.
    pub(super) fn new(length_max: usize) -> Self {
        Self { held: BytesMut::new(), length: None, length_max }
    }

    /// Takes in what has arrived.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.held.extend_from_slice(chunk);
    }

    /// The next record that is whole.
    ///
    /// # Errors
    /// The stream is no RecordIO, or a record is too long: nothing that follows can be trusted.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, String> {
        let length = match self.length {
            Some(length) => length,
            None => match self.next_length()? {
                Some(length) => *self.length.insert(length),
                None => return Ok(None),
            },
        };
        if self.held.len() < length {
            // Doubling would copy a large record again and again.
            self.held.reserve(length - self.held.len());
            return Ok(None);
        }
        self.length = None;
        Ok(Some(self.held.split_to(length).freeze()))
    }

    fn next_length(&mut self) -> Result<Option<usize>, String> {
        let window = &self.held[..self.held.len().min(DIGITS_MAX + 1)];
        let Some(end) = window.iter().position(|octet| *octet == b'\n') else {
            let is_begun = window.len() <= DIGITS_MAX && window.iter().all(u8::is_ascii_digit);
            return if is_begun { Ok(None) } else { Err("no length where a record should begin".to_owned()) };
        };
        let digits =
            core::str::from_utf8(&window[..end]).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let length: u64 = digits
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| "no length where a record should begin".to_owned())?;
        let length = usize::try_from(length).ok().filter(|length| *length <= self.length_max);
        let Some(length) = length else {
            return Err(format!("a record above the limit of {} octets", self.length_max));
        };
        let _ = self.held.split_to(end + 1);
        Ok(Some(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(records: &mut Records, octets: &[u8]) -> Result<Vec<Bytes>, String> {
        records.push(octets);
        let mut all = Vec::new();
        while let Some(record) = records.next()? {
            all.push(record);
        }
        Ok(all)
    }

    #[test]
    fn records_come_out_whole_wherever_the_stream_is_cut() {
        let stream = "0\n3\na\nb12\n{\"é\":\"x\"}  1\n\n".as_bytes();
        let whole = read(&mut Records::new(100), stream).unwrap();
        assert_eq!(whole, ["".as_bytes(), b"a\nb", "{\"é\":\"x\"}  ".as_bytes(), b"\n"]);
        for at in 0..stream.len() {
            let mut records = Records::new(100);
            let mut all = read(&mut records, &stream[..at]).unwrap();
            all.extend(read(&mut records, &stream[at..]).unwrap());
            assert_eq!(all, whole, "cut at {at}");
        }
    }

    #[test]
    fn what_is_no_record_breaks_the_stream() {
        for stream in [
            "{}",
            "-1\n",
            "\n",
            " 3\nabc",
            "3a\n",
            "000000000000000000003\nabc",
            "101\n",
            "99999999999999999999\n",
        ] {
            assert!(read(&mut Records::new(100), stream.as_bytes()).is_err(), "{stream:?}");
        }
        assert_eq!(
            read(&mut Records::new(100), b"123").unwrap(),
            [] as [Bytes; 0],
            "a length may still grow"
        );
    }
}
