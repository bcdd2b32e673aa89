//! The cluster's clock: Unix time in milliseconds when the cluster began, carried on by the proxies' monotonic clocks. All follow the first of them.

use std::time::Duration;

/// It is corrected by at most a thousandth: a millisecond in a second.
const SLEW: u32 = 1000;

/// This node's view of it. Once it is settled it never goes back, and never jumps: all TSvals of a connection are its times.
#[derive(Clone, Debug)]
pub struct ClusterClock {
    /// What it showed (since 1970) at `at`.
    time: Duration,
    at: Duration,
    /// How far another one was ahead at `at` (µs), less what was corrected since.
    behind_us: i64,
    settled: bool,
}

impl ClusterClock {
    /// Shows `unix_ms` at the time `now` of the monotonic clock.
    pub fn new(unix_ms: u64, now: Duration) -> ClusterClock {
        ClusterClock {
            time: Duration::from_millis(unix_ms),
            at: now,
            behind_us: 0,
            settled: false,
        }
    }

    /// What it shows (ms).
    pub fn now_ms(&self, now: Duration) -> u64 {
        self.show(now).as_millis() as u64
    }

    /// The same as something to add to the monotonic clock (ns): for the kernel, which is told again at every heartbeat, and reads whole
    /// milliseconds.
    pub fn offset_ns(&self, now: Duration) -> i64 {
        (self.show(now).as_nanos() as i64).wrapping_sub(now.as_nanos() as i64)
    }

    /// The clock to follow has just shown this. It may be older by the time on the way, which is less than a heartbeat's echo can tell: that
    /// one has waited for its heartbeat.
    pub fn follow(&mut self, now: Duration, clock_ms: u64) {
        let other = Duration::from_millis(clock_ms);
        self.carry_on(now);
        if self.settled {
            // Shown in whole milliseconds: only what is more than that is a difference.
            let ahead = micros(other).saturating_sub(micros(self.time));
            self.behind_us = match ahead {
                1.. => ahead,
                -1000..=0 => 0,
                _ => ahead + 1000,
            };
        } else {
            self.time = other;
        }
    }

    /// Somebody has seen this time already.
    pub fn exceed(&mut self, now: Duration, clock_ms: u64) {
        let seen = Duration::from_millis(clock_ms);
        if !self.settled && seen > self.show(now) {
            self.carry_on(now);
            self.time = seen;
        }
    }

    /// From now on it is shown to others: it does not jump any more.
    pub fn settle(&mut self) {
        self.settled = true;
    }

    fn show(&self, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.at);
        let most = (passed / SLEW).as_micros() as i64;
        let corrected = self.behind_us.clamp(-most, most);
        let (ahead, back) = (corrected.max(0) as u64, corrected.min(0).unsigned_abs());
        self.time + passed + Duration::from_micros(ahead) - Duration::from_micros(back)
    }

    /// From here on `now` is where it began.
    fn carry_on(&mut self, now: Duration) {
        let time = self.show(now);
        let passed = now.saturating_sub(self.at);
        let most = (passed / SLEW).as_micros() as i64;
        self.behind_us -= self.behind_us.clamp(-most, most);
        (self.time, self.at) = (time, self.at.max(now));
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
