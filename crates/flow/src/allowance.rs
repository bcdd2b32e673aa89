use std::time::Duration;

/// So many in a second, and at once.
const RATE: u32 = 5000;

/// Bounds how often strangers can make this node ask all others: a packet of a flow that it does not know costs nothing to forge.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: u32,
    at: Duration,
}

impl Allowance {
    pub(crate) fn new() -> Allowance {
        Allowance {
            left: RATE,
            at: Duration::ZERO,
        }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let each = Duration::from_secs(1) / RATE;
        let earned = now.saturating_sub(self.at).as_nanos() / each.as_nanos();
        if earned > 0 {
            self.left = self
                .left
                .saturating_add(earned.min(u128::from(RATE)) as u32)
                .min(RATE);
            self.at = now;
        }
        let is_left = self.left > 0;
        self.left -= u32::from(is_left);
        is_left
    }
}
