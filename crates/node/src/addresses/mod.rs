//! The VIPs' addresses on this machine's interfaces.

mod interface;
mod subnets;
mod sysctl;

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use nix::errno::Errno;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, CacheInfo};
use rtnetlink::packet_route::link::LinkAttribute;

use crate::config::Vip;
pub(crate) use interface::Interface;
pub use subnets::Subnets;
pub use sysctl::{SysctlError, Sysctls};

/// An address alone (/32, /128) on an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    /// The address.
    pub address: IpAddr,
    /// The interface's name.
    pub interface: String,
}

impl Placed {
    /// The addresses of these VIPs on one interface.
    pub fn of_vips<'a>(vips: impl IntoIterator<Item = &'a Vip>, interface: &str) -> BTreeSet<Self> {
        let addresses = vips.into_iter().flat_map(|vip| &vip.addresses);
        let placed = addresses.map(|address| Self {
            address: address.ip(),
            interface: interface.to_owned(),
        });
        placed.collect()
    }
}

/// The mark of addresses that this program adds, which whoever takes them over knows them by (IFA_PROTO; `ip address` shows it as `proto`).
const PROTOCOL: u8 = 0xba;

/// Addresses that this program added to interfaces. [`Addresses::hold`] nothing at the end: dropping removes nothing.
#[derive(Debug)]
pub struct Addresses {
    netlink: Handle,
    added: BTreeSet<Placed>,
}

/// Why an address could not be held.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum AddressError {
    #[error("cannot open a netlink socket: {0}")]
    Netlink(#[source] std::io::Error),
    #[error("there is no interface \"{interface}\" to read the MTU of: correct [node] interfaces")]
    NoMtu { interface: String },
    #[error("there is no interface \"{interface}\" to hold {address}: correct [node] interfaces")]
    NoInterface { address: IpAddr, interface: String },
    #[error(
        "cannot add {address} to interface \"{interface}\": {source}; this needs root or CAP_NET_ADMIN"
    )]
    Add {
        address: IpAddr,
        interface: String,
        source: rtnetlink::Error,
    },
    #[error("cannot remove {address}: {source}; this needs root or CAP_NET_ADMIN")]
    Remove {
        address: IpAddr,
        source: rtnetlink::Error,
    },
}

impl Addresses {
    /// None yet. Call it inside the runtime: it starts a task for the netlink socket of the present namespace.
    pub fn new() -> Result<Self, AddressError> {
        let (connection, netlink, _) =
            rtnetlink::new_connection().map_err(AddressError::Netlink)?;
        tokio::spawn(connection);
        Ok(Self {
            netlink,
            added: BTreeSet::new(),
        })
    }

    /// Holds exactly `wanted`: adds what is missing on the interface, and removes what this program added before and
    /// is not wanted any more. An address that the interface had already stays when it is not wanted any more, unless a process of this
    /// program had added it.
    pub async fn hold(&mut self, wanted: &BTreeSet<Placed>) -> Result<(), AddressError> {
        for placed in self.added.clone().difference(wanted) {
            self.remove(placed).await;
            self.added.remove(placed);
        }
        for placed in wanted {
            if !self.added.contains(placed) && self.add(placed).await? {
                self.added.insert(placed.clone());
            }
        }
        Ok(())
    }

    /// Whether a process of this program has added one of these, and it is there.
    pub async fn have_own(&self, placed: &BTreeSet<Placed>) -> bool {
        for Placed { address, interface } in placed {
            if let Some(index) = self.index(interface).await
                && let Some(message) = self.find(index, *address).await
                && is_own(&message)
            {
                return true;
            }
        }
        false
    }

    /// Removes those of these addresses that a process of this program added to any interface. Returns them.
    pub async fn remove_left(
        &mut self,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<BTreeSet<IpAddr>, AddressError> {
        let mut messages = Vec::new();
        let mut all = std::pin::pin!(self.netlink.address().get().execute());
        while let Ok(Some(message)) = all.try_next().await {
            let address = address_of(&message);
            messages.extend(
                address
                    .filter(|at| addresses.contains(at) && is_own(&message))
                    .map(|at| (at, message)),
            );
        }
        let mut removed = BTreeSet::new();
        for (address, message) in messages {
            let deleted = self.netlink.address().del(message).execute().await;
            deleted.map_err(|source| AddressError::Remove { address, source })?;
            removed.insert(address);
        }
        Ok(removed)
    }

    /// The smallest MTU of these interfaces (bytes). By netlink: `/sys` may show another network namespace.
    pub async fn mtu(&self, interfaces: &[String]) -> Result<usize, AddressError> {
        let mut smallest = None;
        for interface in interfaces {
            let mut links = self
                .netlink
                .link()
                .get()
                .match_name(interface.to_owned())
                .execute();
            let link = links.try_next().await.ok().flatten();
            let mtu = link
                .into_iter()
                .flat_map(|link| link.attributes)
                .find_map(|attribute| match attribute {
                    LinkAttribute::Mtu(mtu) => Some(mtu as usize),
                    _ => None,
                });
            let mtu = mtu.ok_or_else(|| AddressError::NoMtu {
                interface: interface.clone(),
            })?;
            smallest = Some(smallest.map_or(mtu, |least: usize| least.min(mtu)));
        }
        smallest.ok_or(AddressError::NoMtu {
            interface: "none".into(),
        })
    }

    /// Whether the address was added, now or by a process before; `false` when the interface had it.
    async fn add(&self, placed: &Placed) -> Result<bool, AddressError> {
        let Placed { address, interface } = placed.clone();
        let Some(index) = self.index(&interface).await else {
            return Err(AddressError::NoInterface { address, interface });
        };
        let mut request = self.netlink.address().add(index, address, prefix(address));
        let message = request.message_mut();
        message
            .attributes
            .push(AddressAttribute::Protocol(PROTOCOL.into()));
        if address.is_ipv6() {
            // Several nodes hold the same VIP; duplicate address detection would disable it on all but one.
            message.header.flags |= AddressHeaderFlags::Nodad;
            // Deprecated at once (RFC 4862 5.5.4): this machine's own connections must not begin at the VIP, whose packets come to another one.
            let mut lifetimes = CacheInfo::default();
            lifetimes.ifa_preferred = 0;
            lifetimes.ifa_valid = u32::MAX;
            message
                .attributes
                .push(AddressAttribute::CacheInfo(lifetimes));
        }
        match request.execute().await {
            Ok(()) => Ok(true),
            Err(error) if errno(&error) == Some(Errno::EEXIST) => {
                let there = self.find(index, address).await;
                Ok(there.is_some_and(|message| is_own(&message)))
            }
            Err(source) => Err(AddressError::Add {
                address,
                interface,
                source,
            }),
        }
    }

    async fn remove(&self, placed: &Placed) {
        let Some(index) = self.index(&placed.interface).await else {
            return;
        };
        let Some(message) = self.find(index, placed.address).await else {
            return;
        };
        if let Err(error) = self.netlink.address().del(message).execute().await {
            let Placed { address, interface } = placed;
            tracing::warn!(%address, interface, %error, "an address could not be removed");
        }
    }

    async fn index(&self, interface: &str) -> Option<u32> {
        let mut links = self
            .netlink
            .link()
            .get()
            .match_name(interface.to_owned())
            .execute();
        let link = links.try_next().await.ok().flatten()?;
        Some(link.header.index)
    }

    async fn find(&self, index: u32, address: IpAddr) -> Option<AddressMessage> {
        let request = self.netlink.address().get().set_link_index_filter(index);
        let request = request
            .set_prefix_length_filter(prefix(address))
            .set_address_filter(address);
        let mut found = std::pin::pin!(request.execute());
        found.try_next().await.ok().flatten()
    }
}

/// Whether this program, or a process of it before, added the address.
fn is_own(message: &AddressMessage) -> bool {
    let mark = AddressAttribute::Protocol(PROTOCOL.into());
    message.attributes.contains(&mark)
}

fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let mut attributes = message.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    })
}

fn prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn errno(error: &rtnetlink::Error) -> Option<Errno> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(Errno::from_raw(message.raw_code().abs())),
        _ => None,
    }
}
