//! `[pool.check]`: how the servers of a pool are checked.

use std::time::Duration;

use super::reader::{Item, Section};
use super::values::{integer, milliseconds, string, text};

/// How a server is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Asked for by GET; none: that it can be connected to is enough.
    pub path: Option<String>,
    /// `Host` of the request.
    pub host: Option<String>,
    /// Status of the answer that passes.
    pub status: u16,
    /// From one check to the next.
    pub interval: Duration,
    /// A check that takes longer has failed.
    pub timeout: Duration,
    /// So many in a row that pass bring the server back.
    pub rise: u32,
    /// So many in a row that fail take it out.
    pub fall: u32,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            path: None,
            host: None,
            status: 200,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
        }
    }
}

pub(super) fn read(mut section: Section<'_>) -> Check {
    let default = Check::default();
    Check {
        path: section.optional("path", path),
        host: section.optional("host", string),
        status: section.or("status", default.status, integer(200..=599)),
        interval: section.or("interval_ms", default.interval, milliseconds),
        timeout: section.or("timeout_ms", default.timeout, milliseconds),
        rise: section.or("rise", default.rise, integer(1..=100)),
        fall: section.or("fall", default.fall, integer(1..=100)),
    }
}

fn path(item: &Item<'_>) -> Option<String> {
    let path = text(item)?;
    if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(path.to_owned());
    }
    item.wrong(
        "no path as a request has it",
        "begin it with / and write blanks and other letters as %20 etc.",
    )
}
