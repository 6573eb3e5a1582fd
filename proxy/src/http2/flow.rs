//! Flow control (RFC 9113 §5.2): how much a stream may have unread of what the peer sends, and how much we may send.
//!
//! A window begins small and doubles each time a reader has taken all there was; one who reads slowly keeps a small one,
//! and costs no more memory than that. What it costs a connection in all is bounded too: see [`Growth`].

use super::frame::LARGEST_WINDOW;

/// What the peer may send on a stream.
#[derive(Debug, Default)]
pub struct ReceiveWindow {
    /// Octets that may be sent and not yet read.
    size: u32,
    /// Octets that the peer may still send.
    left: u32,
    /// Octets that were read and of which the peer does not know yet.
    freed: u32,
}

impl ReceiveWindow {
    /// A window as the settings promised it.
    pub const fn new(size: u32) -> Self {
        Self { size, left: size, freed: 0 }
    }

    /// The peer sent this much. Says whether it was allowed to.
    pub fn take(&mut self, count: usize) -> bool {
        let left = u32::try_from(count).ok().and_then(|count| self.left.checked_sub(count));
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// This much was read; `growth` if the reader has taken all there is. Returns what to tell the peer, once it is worth a
    /// frame.
    pub fn release(&mut self, count: usize, growth: Option<&mut Growth>) -> Option<u32> {
        self.freed = self.freed.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        if self.freed < self.size / 2 {
            return None;
        }
        let grown = growth.map_or(0, |growth| growth.take(self.size));
        self.size += grown;
        let increment = std::mem::take(&mut self.freed) + grown;
        self.left += increment;
        Some(increment)
    }

    /// What it has beyond the size that it began with.
    pub const fn grown(&self, initial: u32) -> u32 {
        self.size.saturating_sub(initial)
    }
}

/// What the windows of one connection may grow by, all together.
#[derive(Debug)]
pub struct Growth {
    left: u32,
    largest: u32,
}

impl Growth {
    /// Windows of at most `largest` octets, which have in all `total` octets more than they began with.
    pub const fn new(largest: u32, total: u32) -> Self {
        Self { left: total, largest }
    }

    /// What a window of this size grows by.
    fn take(&mut self, size: u32) -> u32 {
        let grown = size.min(self.largest.saturating_sub(size)).min(self.left);
        self.left -= grown;
        grown
    }

    /// They may have this much more from now on.
    pub const fn allow(&mut self, more: u32) {
        self.left = self.left.saturating_add(more);
    }

    /// A stream is closed that had grown by this much.
    pub const fn give_back(&mut self, grown: u32) {
        self.allow(grown);
    }
}

/// What we may send on the streams of a connection, each of which begins with what the peer's settings say.
///
/// Of a stream only what differs from the beginning is kept with it, its *credit*: when the peer changes the beginning, all
/// windows have changed, and none was visited (RFC 9113 §6.9.2).
#[derive(Debug)]
pub struct SendWindows {
    initial: i64,
    /// No open stream has more credit than this.
    most_credit: i64,
}

impl SendWindows {
    /// Streams begin with `initial` octets.
    pub const fn new(initial: u32) -> Self {
        Self { initial: initial as i64, most_credit: 0 }
    }

    /// The window of a stream with so much credit; below zero after a setting took away what was used already.
    pub const fn of(&self, credit: i64) -> i64 {
        self.initial + credit
    }

    /// A stream has so much credit now. Says whether its window can be so large.
    pub fn raised(&mut self, credit: i64) -> bool {
        let is_possible = self.of(credit) <= LARGEST_WINDOW.into();
        if is_possible {
            self.most_credit = self.most_credit.max(credit);
        }
        is_possible
    }

    /// Streams begin with `initial` octets from now on, those that are open as well. `exact` looks through them for the
    /// most credit, which is asked only where one of them may have too much. Says whether all windows can be so large.
    pub fn begin_with(&mut self, initial: u32, exact: impl FnOnce() -> i64) -> bool {
        self.initial = initial.into();
        if self.of(self.most_credit) > LARGEST_WINDOW.into() {
            self.most_credit = exact().max(0);
        }
        self.of(self.most_credit) <= LARGEST_WINDOW.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_change_with_their_beginning_and_none_is_visited() {
        let mut windows = SendWindows::new(100);
        let (unused, used) = (0, -80);
        assert_eq!((windows.of(unused), windows.of(used)), (100, 20));
        assert!(windows.begin_with(10, || panic!("nobody asks")));
        assert_eq!((windows.of(unused), windows.of(used)), (10, -70));
        assert!(windows.raised(used + 75));
        assert_eq!(windows.of(used + 75), 5);
    }

    #[test]
    fn no_window_is_larger_than_it_can_be() {
        let largest = i64::from(LARGEST_WINDOW);
        let mut windows = SendWindows::new(100);
        assert!(windows.raised(largest - 100));
        assert!(!windows.raised(largest - 99));
        let mut windows = SendWindows::new(100);
        assert!(windows.raised(largest - 100));
        assert!(!windows.begin_with(101, || largest - 100), "it is still open");
        let mut windows = SendWindows::new(100);
        assert!(windows.raised(largest - 100));
        assert!(windows.begin_with(101, || -5), "it is closed, or was used");
        assert!(windows.begin_with(LARGEST_WINDOW, || panic!("it is known by now")));
    }

    #[test]
    fn a_reader_that_keeps_up_gets_more_and_a_slow_one_does_not() {
        let mut growth = Growth::new(8192, 1 << 20);
        let mut quick = ReceiveWindow::new(1024);
        let mut told = Vec::new();
        for _ in 0..6 {
            let all = quick.left as usize;
            assert!(quick.take(all));
            told.extend(quick.release(all, Some(&mut growth)));
        }
        assert_eq!(told, [2048, 4096, 8192, 8192, 8192, 8192]);
        assert_eq!(quick.grown(1024), 7168);

        let mut slow = ReceiveWindow::new(1024);
        assert!(slow.take(1024) && !slow.take(1));
        assert_eq!((slow.release(500, None), slow.release(100, None)), (None, Some(600)));
        assert!(slow.take(600) && !slow.take(1));
    }

    #[test]
    fn all_windows_together_are_bounded() {
        let mut growth = Growth::new(1 << 20, 1500);
        let mut windows = [const { ReceiveWindow::new(1000) }; 3];
        for window in &mut windows {
            window.take(1000);
            window.release(1000, Some(&mut growth));
        }
        assert_eq!(windows.each_ref().map(|window| window.grown(1000)), [1000, 500, 0]);
        growth.give_back(1000);
        windows[2].take(1000);
        assert_eq!(windows[2].release(1000, Some(&mut growth)), Some(2000));
    }
}
