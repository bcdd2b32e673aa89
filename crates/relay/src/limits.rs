//! Times and sizes that bound what a relay spends on one client.

use std::time::Duration;

/// The `[relay]` section of `docs/configuration.md`, where each is explained.
///
/// A connection keeps the limits that it began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connecting to a server.
    pub connect_timeout: Duration,
    /// From the end of a request to the head of its answer. While a server takes a request's body it may pause as long.
    pub response_timeout: Duration,
    /// A client connection between requests, a client that pauses in a body, and a pooled server connection.
    pub idle_timeout: Duration,
    /// From the first byte of a request head to its end.
    pub head_timeout: Duration,
    /// Bytes of a request head.
    pub max_head_bytes: usize,
    /// Client connections at once.
    pub max_connections: usize,
    /// What the requests in flight get to finish at a shutdown.
    pub shutdown_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(75),
            head_timeout: Duration::from_secs(10),
            max_head_bytes: 65_536,
            max_connections: 10_000,
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}
