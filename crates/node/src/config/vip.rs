//! `[[vip]]`: the addresses that clients connect to.

use std::net::SocketAddr;

use baton_policy::PoolId;

use super::outline::Outline;
use super::reader::{Item, Section};
use super::values::{list, socket_address};

/// An address, or some of them, that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    /// Name of the VIP.
    pub name: String,
    /// Where clients connect; no two VIPs share one.
    pub addresses: Vec<SocketAddr>,
    /// Pool for requests that match no route.
    pub default_pool: Option<PoolId>,
    /// Some of its requests may go to a handoff pool. Otherwise it is served by a plain listener.
    pub handoff: bool,
}

/// `taken` are the addresses of the VIPs before, with their names.
pub(super) fn read(
    mut section: Section<'_>,
    place: usize,
    outline: &Outline<'_>,
    taken: &mut Vec<(SocketAddr, String)>,
) -> Option<Vip> {
    let name = section.required("name", "\"web\"", |item| outline.vips.unique(place, item));
    let handoff_pool = outline.handoff_pool(place);
    let owner = section.place().to_owned();
    let addresses = section.required("addresses", "[\"10.77.0.10:80\"]", |item| {
        list(item, "\"10.77.0.10:80\"", |element| {
            address(element, handoff_pool, taken, &owner)
        })
    });
    let default_pool = section.optional("default_pool", |item| {
        outline.pools.resolve(item).map(PoolId)
    });
    Some(Vip {
        name: name?,
        addresses: addresses?,
        default_pool,
        handoff: handoff_pool.is_some(),
    })
}

fn address(
    item: &Item<'_>,
    handoff_pool: Option<&str>,
    taken: &mut Vec<(SocketAddr, String)>,
    owner: &str,
) -> Option<SocketAddr> {
    let address = socket_address(item)?;
    if let (true, Some(pool)) = (address.ip().is_unspecified(), handoff_pool) {
        return item.wrong(
            format_args!(
                "{address} means all addresses, and requests may go to handoff pool \"{pool}\""
            ),
            "write the address that clients connect to",
        );
    }
    if let Some((other, by)) = taken.iter().find(|(other, _)| overlap(*other, address)) {
        return item.wrong(
            format_args!("{address} overlaps with {other} of {by}"),
            "an address and port belong to one VIP: change one of them",
        );
    }
    taken.push((address, owner.to_owned()));
    Some(address)
}

/// Whether one connection could mean both.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && same_ip
}
