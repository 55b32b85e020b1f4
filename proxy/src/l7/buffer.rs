//! Read buffers that a connection holds only while bytes are on their way.
//!
//! Storage comes from a per-worker stock and goes back to it, so that ten thousand idle keep-alive
//! connections cost no buffer, and a busy worker touches the same few warm pages over and over.

use core::cell::RefCell;
use core::fmt;
use core::task::{Context, Poll};
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, ReadBuf};

/// Storage of a request: most heads are far shorter. A longer head moves to [`LARGE`] storage.
pub(crate) const SMALL: usize = 4 * 1024;
/// Storage of a response or of a body in relay: well above 16 KiB, so that common answers take one read.
pub(crate) const LARGE: usize = 64 * 1024;
/// Storage of what goes over the wire with TLS: a large piece, and what encryption adds to it.
pub(crate) const WIRE: usize = LARGE + 1024;
/// Blocks of each size that a worker keeps for reuse; the rest is freed.
const STOCK_MAX: usize = 64;

/// Free storage of one worker.
#[derive(Default)]
pub(crate) struct Stock {
    small: RefCell<Vec<Box<[u8]>>>,
    large: RefCell<Vec<Box<[u8]>>>,
    wire: RefCell<Vec<Box<[u8]>>>,
    heads: RefCell<Vec<Vec<u8>>>,
}

impl Stock {
    fn take(&self, size: usize) -> Box<[u8]> {
        let shelf = match size {
            SMALL => &self.small,
            LARGE => &self.large,
            WIRE => &self.wire,
            _ => return vec![0; size].into_boxed_slice(),
        };
        shelf.borrow_mut().pop().unwrap_or_else(|| vec![0; size].into_boxed_slice())
    }

    /// An empty vector to compose a head in.
    pub(crate) fn take_head(&self) -> Vec<u8> {
        self.heads.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(SMALL))
    }

    /// Takes back what [`take_head`](Self::take_head) gave.
    pub(crate) fn put_head(&self, mut head: Vec<u8>) {
        let mut shelf = self.heads.borrow_mut();
        if (SMALL..=LARGE).contains(&head.capacity()) && shelf.len() < STOCK_MAX {
            head.clear();
            shelf.push(head);
        }
    }

    fn put(&self, bytes: Box<[u8]>) {
        let shelf = match bytes.len() {
            SMALL => &self.small,
            LARGE => &self.large,
            WIRE => &self.wire,
            _ => return,
        };
        let mut shelf = shelf.borrow_mut();
        if shelf.len() < STOCK_MAX {
            shelf.push(bytes);
        }
    }
}

impl fmt::Debug for Stock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stock")
            .field("small", &self.small.borrow().len())
            .field("large", &self.large.borrow().len())
            .finish()
    }
}

/// Bytes that were read and not consumed, in storage that may be absent while there are none.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// The bytes not consumed yet.
    #[inline]
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes that can be read behind the filled part without moving anything.
    pub(crate) fn room(&self) -> usize {
        self.bytes.len() - self.end
    }

    /// Takes `count` bytes off the front.
    #[inline]
    pub(crate) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len(), "only bytes that are there can be consumed");
        self.start += count;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Makes sure there is storage of at least `size` bytes; what is filled stays.
    pub(crate) fn reserve(&mut self, stock: &Stock, size: usize) {
        if self.bytes.len() >= size {
            return;
        }
        let mut larger = stock.take(size);
        let count = self.len();
        larger[..count].copy_from_slice(self.filled());
        stock.put(core::mem::replace(&mut self.bytes, larger));
        (self.start, self.end) = (0, count);
    }

    /// Moves to storage of `size` bytes, if what is filled fits there and it is less than there is.
    pub(crate) fn shrink(&mut self, stock: &Stock, size: usize) {
        if self.bytes.len() <= size || self.len() > size {
            return;
        }
        let mut smaller = stock.take(size);
        let count = self.len();
        smaller[..count].copy_from_slice(self.filled());
        stock.put(core::mem::replace(&mut self.bytes, smaller));
        (self.start, self.end) = (0, count);
    }

    /// Gives the storage back if nothing is in it.
    pub(crate) fn release(&mut self, stock: &Stock) {
        if self.is_empty() && !self.bytes.is_empty() {
            stock.put(core::mem::take(&mut self.bytes));
            (self.start, self.end) = (0, 0);
        }
    }

    /// Forgets what is filled and gives the storage back.
    pub(crate) fn discard(&mut self, stock: &Stock) {
        self.consume(self.len());
        self.release(stock);
    }

    /// Leaves `headroom` bytes free before what will be read next. Only while nothing is filled.
    pub(crate) fn leave_headroom(&mut self, headroom: usize) {
        debug_assert!(self.is_empty(), "headroom is made before the first byte");
        (self.start, self.end) = (headroom, headroom);
    }

    /// Puts `head` in place of the first `length` filled bytes, growing into the headroom. False, and
    /// nothing done, if it does not fit.
    pub(crate) fn replace_front(&mut self, length: usize, head: &[u8]) -> bool {
        let end = self.start + length;
        let Some(start) = end.checked_sub(head.len()) else { return false };
        self.bytes[start..end].copy_from_slice(head);
        self.start = start;
        true
    }

    /// Moves what is filled to the beginning of the storage.
    pub(crate) fn compact(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Reads once behind the filled bytes. `Ok(0)` is the end of the stream; there must be room.
    #[inline]
    pub(crate) fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.room() > 0, "a read into nothing looks like the end of the stream");
        let mut target = ReadBuf::new(&mut self.bytes[self.end..]);
        match Pin::new(from).poll_read(cx, &mut target) {
            Poll::Ready(Ok(())) => {
                let count = target.filled().len();
                self.end += count;
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// The filled bytes, to be decrypted in place.
    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// The storage behind the filled bytes; what is written there counts by [`fill`](Self::fill).
    pub(crate) fn room_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// Takes the first `count` bytes of the room as filled.
    pub(crate) fn fill(&mut self, count: usize) {
        debug_assert!(count <= self.room(), "only storage can be filled");
        self.end += count;
    }

    /// Appends bytes that were read elsewhere; there must be room.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }
}

/// Forgets the first `at` of `octets`, which have left, once no more than as many are behind them: so a queue that
/// is never quite empty doesn't grow, and moving what is left costs no more than what left. True if it did.
pub(crate) fn forget_front(octets: &mut Vec<u8>, at: &mut usize) -> bool {
    debug_assert!(*at <= octets.len(), "only what is there can leave");
    let is_worth_it = *at > 0 && *at >= octets.len() - *at;
    if is_worth_it {
        octets.drain(..core::mem::take(at));
    }
    is_worth_it
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_is_never_empty_stays_small_and_in_order() {
        let (mut queue, mut at) = (vec![0], 0);
        let mut expected = 0;
        for last in 1..10_000_u32 {
            queue.push(last as u8);
            assert_eq!(queue[at], expected);
            expected = expected.wrapping_add(1);
            at += 1;
            forget_front(&mut queue, &mut at);
            assert!(queue.len() <= 3 && at < queue.len());
        }
    }

    fn filled(text: &[u8], headroom: usize) -> Buffer {
        let mut buffer = Buffer::default();
        buffer.reserve(&Stock::default(), SMALL);
        buffer.leave_headroom(headroom);
        buffer.append(text);
        buffer
    }

    #[test]
    fn a_longer_head_grows_into_the_headroom_and_leaves_the_body_alone() {
        let mut buffer = filled(b"head|body", 4);
        assert!(buffer.replace_front(5, b"longhead|"));
        assert_eq!(buffer.filled(), b"longhead|body");
        assert!(!buffer.replace_front(9, b"too long for it|"));
        assert_eq!(buffer.filled(), b"longhead|body");
        assert!(buffer.replace_front(9, b"h|"));
        assert_eq!(buffer.filled(), b"h|body");
    }

    #[test]
    fn storage_goes_back_only_when_empty_and_is_used_again() {
        let stock = Stock::default();
        let mut buffer = Buffer::default();
        buffer.reserve(&stock, SMALL);
        buffer.append(b"ab");
        buffer.release(&stock);
        assert_eq!(buffer.filled(), b"ab");
        buffer.consume(2);
        buffer.release(&stock);
        assert_eq!(stock.small.borrow().len(), 1);
        buffer.reserve(&stock, SMALL);
        assert!(stock.small.borrow().is_empty());
        assert_eq!(buffer.room(), SMALL);
    }

    #[test]
    fn growing_keeps_what_was_read() {
        let stock = Stock::default();
        let mut buffer = filled(b"0123456789", 0);
        buffer.consume(3);
        buffer.reserve(&stock, LARGE);
        assert_eq!(buffer.filled(), b"3456789");
        assert_eq!(buffer.room(), LARGE - 7);
    }
}
