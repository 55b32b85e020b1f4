//! Flow-control windows (RFC 9113 §5.2 and §6.9).

/// The largest window there may be.
pub(crate) const WINDOW_MAX: i64 = (1 << 31) - 1;
/// What every window has before anybody said otherwise.
pub(crate) const WINDOW: i64 = 65_535;

/// A window became larger than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overflow;

/// How much may be sent. Below 0 after the peer made initial windows smaller (§6.9.2).
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendWindow(i64);

impl SendWindow {
    pub(crate) const fn new(size: i64) -> Self {
        Self(size)
    }

    pub(crate) fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    pub(crate) fn take(&mut self, count: usize) {
        debug_assert!(count <= self.available(), "what is sent has room in the window");
        self.0 -= count as i64;
    }

    /// What was taken is not sent after all.
    pub(crate) fn put_back(&mut self, count: usize) {
        self.0 = (self.0 + count as i64).min(WINDOW_MAX);
    }

    /// WINDOW_UPDATE, or a change of the initial window.
    pub(crate) fn change(&mut self, by: i64) -> Result<(), Overflow> {
        self.0 += by;
        if self.0 > WINDOW_MAX { Err(Overflow) } else { Ok(()) }
    }
}

/// How much may come. What was used is given back in large pieces: an update per DATA frame would cost as much as
/// the frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReceiveWindow {
    size: i64,
    left: i64,
    /// Used here, and not given back yet.
    used: i64,
}

impl ReceiveWindow {
    pub(crate) const fn new(size: i64) -> Self {
        Self { size, left: size, used: 0 }
    }

    /// Octets came.
    pub(crate) fn take(&mut self, count: usize) -> Result<(), Overflow> {
        self.left -= count as i64;
        if self.left < 0 { Err(Overflow) } else { Ok(()) }
    }

    /// Octets were used. What the peer is to be told, once it is half of the window.
    pub(crate) fn give_back(&mut self, count: usize) -> Option<u32> {
        self.used += count as i64;
        if self.used < self.size / 2 {
            return None;
        }
        let used = core::mem::take(&mut self.used);
        self.left += used;
        u32::try_from(used).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_6_9_1_a_window_never_exceeds_its_limit() {
        let mut window = SendWindow::new(WINDOW);
        assert_eq!(window.change(WINDOW_MAX - WINDOW), Ok(()));
        assert_eq!(window.change(1), Err(Overflow));
    }

    #[test]
    fn section_6_9_2_a_window_can_be_negative() {
        let mut window = SendWindow::new(WINDOW);
        window.take(60_000);
        window.change(-WINDOW).unwrap();
        assert_eq!(window.available(), 0);
        window.change(60_001).unwrap();
        assert_eq!(window.available(), 1);
    }

    #[test]
    fn updates_come_in_halves_and_nothing_is_lost() {
        let mut window = ReceiveWindow::new(1000);
        let mut told = 0;
        for _ in 0..100 {
            window.take(90).unwrap();
            told += window.give_back(90).unwrap_or(0);
            assert_eq!(window.left + window.used, 1000);
        }
        assert_eq!(i64::from(told) + window.used, 9000);
        assert_eq!(ReceiveWindow::new(10).take(11), Err(Overflow));
    }
}
