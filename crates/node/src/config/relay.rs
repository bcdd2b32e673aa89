//! `[relay]`: the user-space relay.

use baton_relay::Limits;

use super::reader::Section;
use super::values::{integer, milliseconds};

pub(super) fn read(mut section: Section<'_>) -> Limits {
    let default = Limits::default();
    Limits {
        connect_timeout: section.or("connect_timeout_ms", default.connect_timeout, milliseconds),
        response_timeout: section.or(
            "response_timeout_ms",
            default.response_timeout,
            milliseconds,
        ),
        idle_timeout: section.or("idle_timeout_ms", default.idle_timeout, milliseconds),
        head_timeout: section.or("head_timeout_ms", default.head_timeout, milliseconds),
        max_head_bytes: section.or(
            "max_head_bytes",
            default.max_head_bytes,
            integer(1_024..=1 << 24),
        ),
        max_connections: section.or(
            "max_connections",
            default.max_connections,
            integer(1..=1 << 24),
        ),
        ..default
    }
}
