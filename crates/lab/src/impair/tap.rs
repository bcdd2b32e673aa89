//! A cable in the hands of a test: rules say what becomes of each frame.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::forward::{Way, fates, forward_by};
use super::judge::{Fate, Faults};
use super::packet::PacketSocket;
use crate::link::Gap;
use crate::netns::Netns;

/// What becomes of a frame; `None`: what the cable's faults make of it.
type Rule = Box<dyn FnMut(Way, &[u8]) -> Option<Fate> + Send>;

/// Forwards frames on a cut cable in a thread of this process, until it is dropped.
pub(crate) struct Tap {
    rule: Arc<Mutex<Rule>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tap {
    /// # Errors
    /// When an interface is missing or privileges are.
    pub(crate) fn start(
        switch: &Netns,
        gap: &Gap,
        faults: Faults,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let ends = switch.inside(|| {
            Ok([
                PacketSocket::open(&gap.host_side)?,
                PacketSocket::open(&gap.bridge_side)?,
            ])
        })?;
        let (rule, stop) = (Arc::new(Mutex::new(no_rule())), Arc::default());
        let thread = {
            let (rule, stop) = (Arc::clone(&rule), Arc::clone(&stop));
            let mut by_faults = fates(faults, seed);
            let stopped = move || AtomicBool::load(&stop, Ordering::Relaxed);
            thread::spawn(move || {
                let decide = |way, frame: &[u8]| {
                    let usual = by_faults(way);
                    let mut rule = rule.lock().unwrap_or_else(PoisonError::into_inner);
                    rule(way, frame).unwrap_or(usual)
                };
                if let Err(error) = forward_by(ends, stopped, decide) {
                    eprintln!("a tapped cable forwards no more: {error:#}");
                }
            })
        };
        Ok(Self {
            rule,
            stop,
            thread: Some(thread),
        })
    }

    /// As long as what is returned is kept, frames are treated by this rule, in place of the one before.
    pub(crate) fn rule(
        &self,
        rule: impl FnMut(Way, &[u8]) -> Option<Fate> + Send + 'static,
    ) -> Ruled {
        set(&self.rule, Box::new(rule));
        Ruled(Arc::clone(&self.rule))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// While it is kept, the rule holds.
#[must_use]
pub(crate) struct Ruled(Arc<Mutex<Rule>>);

impl Drop for Ruled {
    fn drop(&mut self) {
        set(&self.0, no_rule());
    }
}

fn set(place: &Mutex<Rule>, rule: Rule) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = rule;
}

fn no_rule() -> Rule {
    Box::new(|_, _| None)
}
