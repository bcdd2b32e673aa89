//! `[relay]`: the user-space relay.

use std::time::Duration;

use super::reader::Section;
use super::values::{integer, milliseconds};

/// Options of the user-space relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayOptions {
    /// Connecting to a server.
    pub connect_timeout: Duration,
    /// From the end of a request to the head of the answer.
    pub response_timeout: Duration,
    /// A client connection without a request, and a pooled server connection without use, is closed.
    pub idle_timeout: Duration,
    /// From the first byte of a request head to its end.
    pub head_timeout: Duration,
    /// A longer request head gets 431 (bytes).
    pub max_head_bytes: usize,
    /// Client connections at once; more wait in the accept queue.
    pub max_connections: usize,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_millis(5_000),
            response_timeout: Duration::from_millis(60_000),
            idle_timeout: Duration::from_millis(75_000),
            head_timeout: Duration::from_millis(10_000),
            max_head_bytes: 65_536,
            max_connections: 10_000,
        }
    }
}

pub(super) fn read(mut section: Section<'_>) -> RelayOptions {
    let default = RelayOptions::default();
    RelayOptions {
        connect_timeout: section.or("connect_timeout_ms", default.connect_timeout, milliseconds),
        response_timeout: section.or(
            "response_timeout_ms",
            default.response_timeout,
            milliseconds,
        ),
        idle_timeout: section.or("idle_timeout_ms", default.idle_timeout, milliseconds),
        head_timeout: section.or("head_timeout_ms", default.head_timeout, milliseconds),
        // hyper refuses buffers below 8 KiB.
        max_head_bytes: section.or(
            "max_head_bytes",
            default.max_head_bytes,
            integer(8_192..=1 << 24),
        ),
        max_connections: section.or(
            "max_connections",
            default.max_connections,
            integer(1..=1 << 24),
        ),
    }
}
