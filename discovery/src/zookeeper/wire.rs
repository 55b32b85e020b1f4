//! ZooKeeper's messages, as many as reading needs: big-endian numbers, texts and buffers behind their length (-1: none).
//! Pure.

/// The request types used here.
pub(super) const EXISTS: i32 = 3;
pub(super) const GET_DATA: i32 = 4;
pub(super) const GET_CHILDREN: i32 = 8;
pub(super) const PING: i32 = 11;
pub(super) const AUTH: i32 = 100;

/// Numbers of exchanges that are not requests of the caller.
pub(super) const XID_EVENT: i32 = -1;
pub(super) const XID_PING: i32 = -2;
pub(super) const XID_AUTH: i32 = -4;

/// What an answer may say instead of an answer.
pub(super) const OK: i32 = 0;
pub(super) const NO_NODE: i32 = -101;
pub(super) const NO_AUTH: i32 = -102;
pub(super) const AUTH_FAILED: i32 = -115;

/// Writes one message, with its length in front.
#[derive(Debug)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// A request of type `kind`.
    pub(super) fn request(xid: i32, kind: i32) -> Self {
        Self::bare().number(xid).number(kind)
    }

    /// A message without a header, as the first of a connection is.
    pub(super) fn bare() -> Self {
        Self(vec![0; 4])
    }

    pub(super) fn number(mut self, number: i32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(super) fn long(mut self, number: i64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(super) fn truth(mut self, truth: bool) -> Self {
        self.0.push(u8::from(truth));
        self
    }

    /// A text or a buffer.
    pub(super) fn octets(self, octets: &[u8]) -> Self {
        let length = i32::try_from(octets.len()).unwrap_or(i32::MAX);
        let mut message = self.number(length);
        message.0.extend_from_slice(octets);
        message
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

/// Reads one message. Everything is `None` once it has run out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'m>(pub(super) &'m [u8]);

impl<'m> Reader<'m> {
    fn take(&mut self, length: usize) -> Option<&'m [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn number(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn long(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    /// A text or a buffer; one that is not there counts as empty.
    pub(super) fn octets(&mut self) -> Option<&'m [u8]> {
        match self.number()? {
            -1 => Some(&[]),
            length => self.take(usize::try_from(length).ok()?),
        }
    }

    pub(super) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.octets()?.to_vec()).ok()
    }

    pub(super) fn texts(&mut self) -> Option<Vec<String>> {
        let count = usize::try_from(self.number()?.max(0)).ok()?;
        // A count is believed only as far as there are octets for it.
        let mut texts = Vec::with_capacity(count.min(self.0.len() / 4));
        for _ in 0..count {
            texts.push(self.text()?);
        }
        Some(texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let message = Message::request(7, GET_DATA).long(-1).octets(b"/mesos").truth(true).finish();
        assert_eq!(message[..4], (message.len() as u32 - 4).to_be_bytes());
        let mut reader = Reader(&message[4..]);
        assert_eq!((reader.number(), reader.number(), reader.long()), (Some(7), Some(GET_DATA), Some(-1)));
        assert_eq!(reader.text().as_deref(), Some("/mesos"));
        assert_eq!((reader.0, reader.number()), (&[1][..], None));
    }

    #[test]
    fn lengths_that_lie_are_not_believed() {
        for octets in [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff, 0xff, 0xff, 0xfe, 0], &[0, 0, 0, 2, b'x']] {
            assert_eq!(Reader(octets).octets(), None, "{octets:?}");
            assert_eq!(Reader(octets).texts().filter(|texts| !texts.is_empty()), None, "{octets:?}");
        }
        assert_eq!(Reader(&[0xff, 0xff, 0xff, 0xff]).octets(), Some(&[][..]));
    }
}
