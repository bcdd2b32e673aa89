//! Whether this node may be given something new: its operator says so, and the end of the program; its heartbeats tell the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Duty(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    draining: AtomicBool,
    leaving: AtomicBool,
}

impl Duty {
    /// From now on it shall be given nothing new, or may again.
    pub fn drain(&self, draining: bool) {
        self.0.draining.store(draining, Relaxed);
    }

    /// It is about to end.
    pub(crate) fn leave(&self) {
        self.0.leaving.store(true, Relaxed);
    }

    /// Whether its operator has drained it.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Relaxed)
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.0.leaving.load(Relaxed)
    }
}
