//! Frames under way: those that are due come out, the earliest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// One direction of a cable. Holds at most `limit` bytes; a frame too many is lost, as at the end of a full queue.
pub(crate) struct Line {
    under_way: BinaryHeap<Reverse<Frame>>,
    bytes: usize,
    limit: usize,
    entered: u64,
}

/// Ordered by due time, then by arrival.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Frame {
    due: Instant,
    arrival: u64,
    bytes: Box<[u8]>,
}

impl Line {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            under_way: BinaryHeap::new(),
            bytes: 0,
            limit,
            entered: 0,
        }
    }

    pub(crate) fn enter(&mut self, bytes: &[u8], due: Instant) {
        if self.bytes + bytes.len() > self.limit {
            return;
        }
        self.bytes += bytes.len();
        self.entered += 1;
        self.under_way.push(Reverse(Frame {
            due,
            arrival: self.entered,
            bytes: bytes.into(),
        }));
    }

    pub(crate) fn leave(&mut self, now: Instant) -> Option<Box<[u8]>> {
        let Reverse(first) = self.under_way.peek()?;
        if first.due > now {
            return None;
        }
        let Reverse(frame) = self.under_way.pop()?;
        self.bytes -= frame.bytes.len();
        Some(frame.bytes)
    }

    /// When the next frame comes out.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.under_way.peek().map(|Reverse(frame)| frame.due)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn frames_come_out_when_due_in_the_order_of_their_times() {
        let start = Instant::now();
        let mut line = Line::new(100);
        line.enter(b"late", after(start, 3));
        line.enter(b"first", after(start, 2));
        line.enter(b"second", after(start, 2));
        assert_eq!(line.next_due(), Some(after(start, 2)));
        assert_eq!(line.leave(after(start, 1)), None);
        assert_eq!(line.leave(after(start, 2)).as_deref(), Some(&b"first"[..]));
        assert_eq!(line.leave(after(start, 2)).as_deref(), Some(&b"second"[..]));
        assert_eq!(line.leave(after(start, 2)), None);
        assert_eq!(line.leave(after(start, 9)).as_deref(), Some(&b"late"[..]));
        assert_eq!(line.next_due(), None);
    }

    #[test]
    fn a_full_line_loses_what_comes_and_keeps_what_it_has() {
        let start = Instant::now();
        let mut line = Line::new(10);
        line.enter(&[1; 6], start);
        line.enter(&[2; 6], start);
        line.enter(&[3; 4], start);
        assert_eq!(line.leave(start).map(|frame| frame[0]), Some(1));
        assert_eq!(line.leave(start).map(|frame| frame[0]), Some(3));
        assert_eq!(line.leave(start), None);
    }
}
