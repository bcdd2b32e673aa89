//! The signals that the program listens to.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::context::Ending;

/// SIGTERM and SIGINT: the program is to end for good. SIGUSR2: another process goes on.
pub(crate) struct Ends {
    terminate: Signal,
    interrupt: Signal,
    hand_over: Signal,
}

impl Ends {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hand_over: listen(SignalKind::user_defined2())?,
        })
    }

    /// Returns at the next one, with its name.
    pub(crate) async fn next(&mut self) -> (&'static str, Ending) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", Ending::Leave),
            _ = self.interrupt.recv() => ("SIGINT", Ending::Leave),
            _ = self.hand_over.recv() => ("SIGUSR2", Ending::HandOver),
        }
    }
}

/// SIGHUP: the configuration is to be read again.
pub(crate) fn reloads() -> anyhow::Result<Signal> {
    listen(SignalKind::hangup())
}

fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("cannot listen to signals")
}
