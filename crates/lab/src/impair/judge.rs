//! What happens to a frame: a pure function of the faults asked for, a seed and the frames before.

use std::time::Duration;

use clap::Args;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::units;

/// How long a reordered frame is held back: long enough to be overtaken, short enough not to be taken for lost.
const HELD_BACK: Duration = Duration::from_millis(1);

/// Faults of one cable, the same in both directions and independent for each frame.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Faults {
    /// One way, on the client's cable: 25ms makes a round trip of 50 ms
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "0ms")]
    pub(crate) delay: Duration,
    /// Frames lost, on every cable in each direction
    #[arg(long, value_name = "PERCENT", value_parser = units::percent, default_value = "0%")]
    pub(crate) loss: f64,
    /// Frames held back for 1 ms so that later ones overtake them, on every cable in each direction
    #[arg(long, value_name = "PERCENT", value_parser = units::percent, default_value = "0%")]
    pub(crate) reorder: f64,
    /// Frames delivered twice, on every cable in each direction
    #[arg(long, value_name = "PERCENT", value_parser = units::percent, default_value = "0%")]
    pub(crate) duplicate: f64,
}

impl Faults {
    /// The same without delay: what other cables than the client's have.
    pub(crate) fn without_delay(self) -> Self {
        Self {
            delay: Duration::ZERO,
            ..self
        }
    }

    pub(crate) fn none(&self) -> bool {
        *self == Self::default()
    }

    /// As arguments of a command line.
    pub(crate) fn arguments(&self) -> Vec<String> {
        vec![
            format!("--delay={}us", self.delay.as_micros()),
            format!("--loss={}%", self.loss * 100.0),
            format!("--reorder={}%", self.reorder * 100.0),
            format!("--duplicate={}%", self.duplicate * 100.0),
        ]
    }
}

/// When the copies of a frame are due, counted from its arrival; none: it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) first: Option<Duration>,
    pub(crate) second: Option<Duration>,
}

impl Fate {
    pub(crate) const LOST: Self = Self {
        first: None,
        second: None,
    };

    /// Comes at once, and again after some time.
    pub(crate) fn again(after: Duration) -> Self {
        Self {
            first: Some(Duration::ZERO),
            second: Some(after),
        }
    }
}

/// Decides for one direction of a cable.
pub(crate) struct Judge<R = ChaCha8Rng> {
    faults: Faults,
    random: R,
}

impl Judge {
    pub(crate) fn new(faults: Faults, seed: u64) -> Self {
        Self {
            faults,
            random: ChaCha8Rng::seed_from_u64(seed),
        }
    }
}

impl<R: Rng> Judge<R> {
    pub(crate) fn fate(&mut self) -> Fate {
        if self.random.random_bool(self.faults.loss) {
            return Fate::LOST;
        }
        let second = self
            .random
            .random_bool(self.faults.duplicate)
            .then_some(self.faults.delay);
        let held = if self.random.random_bool(self.faults.reorder) {
            HELD_BACK
        } else {
            Duration::ZERO
        };
        Fate {
            first: Some(self.faults.delay + held),
            second,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: usize = 100_000;

    fn fates(faults: Faults, seed: u64) -> Vec<Fate> {
        let mut judge = Judge::new(faults, seed);
        (0..FRAMES).map(|_| judge.fate()).collect()
    }

    fn share(fates: &[Fate], of: impl Fn(&Fate) -> bool) -> f64 {
        fates.iter().filter(|fate| of(fate)).count() as f64 / fates.len() as f64
    }

    #[test]
    fn faults_come_as_often_as_asked_for() {
        let delay = Duration::from_millis(25);
        let faults = Faults {
            delay,
            loss: 0.01,
            reorder: 0.03,
            duplicate: 0.02,
        };
        let fates = fates(faults, 7);
        let near = |share: f64, asked: f64| (share - asked).abs() < asked * 0.15;
        assert!(near(share(&fates, |f| f.first.is_none()), 0.01));
        assert!(near(
            share(&fates, |f| f.first == Some(delay + HELD_BACK)),
            0.03
        ));
        assert!(near(share(&fates, |f| f.second == Some(delay)), 0.02));
    }

    #[test]
    fn a_seed_says_it_all() {
        let faults = Faults {
            loss: 0.5,
            duplicate: 0.5,
            ..Faults::default()
        };
        assert_eq!(fates(faults, 1), fates(faults, 1));
        assert_ne!(fates(faults, 1), fates(faults, 2));
    }

    #[test]
    fn without_faults_every_frame_passes_at_once() {
        let now = Fate {
            first: Some(Duration::ZERO),
            second: None,
        };
        assert!(fates(Faults::default(), 3).iter().all(|&fate| fate == now));
    }
}
