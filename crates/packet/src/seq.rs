use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A TCP sequence number (RFC 9293, section 3.4): 32 bits that wrap.
///
/// Two numbers are ordered only while they are less than 2^31 apart, so `Ord` is deliberately missing: it would not
/// be transitive. Use [`before`](Seq::before), [`after`](Seq::after) and the signed distance `a - b`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seq(pub u32);

impl Seq {
    /// Whether this number comes before `other`.
    pub fn before(self, other: Seq) -> bool {
        self - other < 0
    }

    /// Whether this number comes after `other`.
    pub fn after(self, other: Seq) -> bool {
        self - other > 0
    }

    /// Whether this number is `other` or comes after it.
    pub fn at_or_after(self, other: Seq) -> bool {
        self - other >= 0
    }

    /// Whether this number is `other` or comes before it.
    pub fn at_or_before(self, other: Seq) -> bool {
        self - other <= 0
    }

    /// The later of the two.
    pub fn latest(self, other: Seq) -> Seq {
        if self.before(other) { other } else { self }
    }
}

impl Add<u32> for Seq {
    type Output = Seq;

    fn add(self, bytes: u32) -> Seq {
        Seq(self.0.wrapping_add(bytes))
    }
}

impl AddAssign<u32> for Seq {
    fn add_assign(&mut self, bytes: u32) {
        *self = *self + bytes;
    }
}

impl Sub<u32> for Seq {
    type Output = Seq;

    fn sub(self, bytes: u32) -> Seq {
        Seq(self.0.wrapping_sub(bytes))
    }
}

/// The signed distance from `earlier` to `self`; negative if `self` comes first.
impl Sub for Seq {
    type Output = i32;

    fn sub(self, earlier: Seq) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq {}", self.0)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_holds_across_the_wrap() {
        let last = Seq(u32::MAX);
        let first = last + 1;
        assert_eq!(first, Seq(0));
        assert!(last.before(first) && first.after(last));
        assert_eq!(first - last, 1);
        assert_eq!(last - first, -1);
        assert_eq!(last.latest(first), first);
        assert!(first.at_or_after(first) && first.at_or_before(first));
    }
}
