//! `[[server]]`: the back ends.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::outline::Outline;
use super::reader::Section;
use super::values::{ip_address, socket_address};

/// A back end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Name of the back end.
    pub name: Arc<str>,
    /// The `address` of its node. There when a handoff pool has it.
    pub address: Option<IpAddr>,
    /// Where a relay reaches the web server itself. There when a relay pool has it.
    pub http: Option<SocketAddr>,
}

/// A server as a pool sees it, also when something about it is wrong.
pub(super) struct Known {
    pub(super) has_address: bool,
    pub(super) has_http: bool,
    /// Line of its section.
    pub(super) line: usize,
    pub(super) server: Option<Server>,
}

pub(super) fn read(mut section: Section<'_>, place: usize, outline: &Outline<'_>) -> Known {
    let name = section.required("name", "\"backend1\"", |item| {
        outline.servers.unique(place, item)
    });
    let address = section.optional("address", ip_address);
    let http = section.optional("http", socket_address);
    Known {
        has_address: section.has("address"),
        has_http: section.has("http"),
        line: section.line(),
        server: name.map(|name| Server {
            name: name.into(),
            address,
            http,
        }),
    }
}
