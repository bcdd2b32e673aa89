//! What every role is given.

use std::sync::Arc;

use tokio::sync::watch;

use crate::admin::Registry;
use crate::config::Config;
use crate::health::Board;

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
}

/// A request to end, seen by everything that holds a clone.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// Makes the request.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// A request to end that has not been made.
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Asks everything to end.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Returns once the request is made, or nobody is left to make it.
    pub async fn requested(&mut self) {
        // An error says that the sender is gone.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}
