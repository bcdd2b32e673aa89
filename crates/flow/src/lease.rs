//! What back ends take from the lists of proxies: whose flows go on.

use std::net::IpAddr;
use std::time::Duration;

/// A proxy, as a back end hears it.
#[derive(Clone, Debug)]
pub(crate) struct Granter {
    pub(crate) proxy: IpAddr,
    /// It does not take this back end for dead before this time.
    pub(crate) lease: Duration,
    /// The proxies that it takes for live; `None`: it hears no majority, and cannot tell.
    pub(crate) lists: Option<Vec<IpAddr>>,
}

/// Until when each proxy's flows may be answered. Those of a proxy that nobody has in its list any more belong to another one: they go on as
/// long as all that are left, any of which it may be, have this back end for live.
pub(crate) fn leases(now: Duration, granters: &[Granter]) -> Vec<(IpAddr, Duration)> {
    let inherited = inherited(now, granters);
    granters
        .iter()
        .map(|granter| {
            let until = match &inherited {
                Some((left, until)) if granter.lease <= now && !left.contains(&granter.proxy) => {
                    *until
                }
                _ => granter.lease,
            };
            (granter.proxy, until)
        })
        .collect()
}

/// The proxies that are left, and the first end of their leases.
fn inherited(now: Duration, granters: &[Granter]) -> Option<(Vec<IpAddr>, Duration)> {
    let valid = || granters.iter().filter(|granter| granter.lease > now);
    let mut left = Vec::new();
    for granter in valid() {
        left.extend(granter.lists.as_ref()?);
    }
    left.sort();
    left.dedup();
    let lease = |proxy: &IpAddr| {
        valid()
            .find(|granter| granter.proxy == *proxy)
            .map(|granter| granter.lease)
    };
    let until = left
        .iter()
        .map(lease)
        .try_fold(Duration::MAX, |first, lease| Some(first.min(lease?)))?;
    (!left.is_empty()).then_some((left, until))
}
