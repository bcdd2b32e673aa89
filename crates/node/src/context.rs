//! What every role is given.

use std::sync::Arc;

use tokio::sync::watch;

use crate::admin::Registry;
use crate::checks::Checks;
use crate::config::Config;
use crate::duty::Duty;
use crate::health::Board;
use crate::roll::Roll;

/// What every role is given. A role runs until `stop`, undoes what it did to the machine, and returns; an error ends
/// the program.
#[derive(Debug, Clone)]
pub struct Context {
    /// The configuration in force; a reload changes it.
    pub config: watch::Receiver<Arc<Config>>,
    /// When to end.
    pub stop: Stop,
    /// Where the role says that it is ready, and what it counts.
    pub registry: Arc<Registry>,
    /// Which servers can be used: the proxy writes it.
    pub health: Board,
    /// Whether this node may be given something new.
    pub duty: Duty,
    /// The other nodes.
    pub roll: Roll,
    /// What checks of web servers have found.
    pub checks: Checks,
}

/// How to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// For good: what was done to the machine is undone.
    Leave,
    /// Another process goes on: what is in the kernel stays there.
    HandOver,
}

/// A request to end, seen by everything that holds a clone.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Option<Ending>>);

/// Makes the request.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Option<Ending>>);

/// A request to end that has not been made.
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(None);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Asks everything to end.
    pub fn stop(&self, ending: Ending) {
        self.0.send_replace(Some(ending));
    }
}

impl Stop {
    /// Returns once the request is made, or nobody is left to make it.
    pub async fn requested(&mut self) {
        // An error says that the sender is gone.
        let _ = self.0.wait_for(Option::is_some).await;
    }

    /// Whether another process goes on.
    pub fn is_handover(&self) -> bool {
        *self.0.borrow() == Some(Ending::HandOver)
    }
}
