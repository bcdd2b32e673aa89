//! What the nodes of a lab say: who is live, and whose counters move.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::client::Connection;
use crate::cluster::{Lab, wait_until};
use crate::command;
use crate::topology::Host;

/// Nodes notice that another is gone or back within this time (three heartbeats and a half, of a second at most), on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// What a proxy's log has before the addresses of those that own flows, whenever they are others than before.
pub(in crate::scenarios) const OWNERS: &str = "own flows now owners=";
/// How many proxies a proxy takes for live.
const LIVE: &str = "baton_proxies{state=\"in\"}";
/// Of which each proxy owns a part (docs/architecture.md).
const SLOTS: u64 = 16_384;
/// What moves at the proxy that decides about a request.
const DECISIONS: [&str; 4] = [
    "baton_binds_total",
    "baton_rebinds_total",
    "baton_decisions_total{event=\"stay\"}",
    "baton_packets_total{role=\"proxy\",verdict=\"forwarded\",reason=\"known_request\"}",
];
/// At the proxy that gets the first part of a head.
const PUNTS: [&str; 1] = ["baton_punts_total"];
/// At the proxy that answers a SYN.
const HANDSHAKES: [&str; 1] =
    ["baton_packets_total{role=\"proxy\",verdict=\"answered\",reason=\"syn\"}"];

/// Which counters tell who was concerned.
#[derive(Clone, Copy)]
pub(super) enum Trace {
    Decided,
    Punted,
    ShookHands,
}

impl Trace {
    fn series(self) -> &'static [&'static str] {
        match self {
            Self::Decided => &DECISIONS,
            Self::Punted => &PUNTS,
            Self::ShookHands => &HANDSHAKES,
        }
    }
}

/// The proxies' counters at a moment.
pub(super) struct Before(BTreeMap<String, u64>, Trace);

impl Before {
    /// # Errors
    /// When a proxy does not answer.
    pub(super) fn now(lab: &Lab, trace: Trace) -> anyhow::Result<Self> {
        let sums = names(&lab.topology.proxies()).into_iter().map(|proxy| {
            let sum = sum(lab, &proxy, trace)?;
            Ok((proxy, sum))
        });
        Ok(Self(sums.collect::<anyhow::Result<_>>()?, trace))
    }

    /// Waits until the counters of one proxy have moved, and says of which.
    ///
    /// # Errors
    /// When none has, or several have.
    pub(super) fn one_moved(&self, lab: &Lab) -> anyhow::Result<String> {
        let mut moved = Vec::new();
        wait_until("a proxy's counters move", PATIENCE, || {
            moved = self.moved(lab)?;
            Ok(!moved.is_empty())
        })?;
        match &moved[..] {
            [one] => Ok(one.clone()),
            several => bail!("more than one proxy was concerned: {several:?}"),
        }
    }

    /// Those whose counters have moved.
    ///
    /// # Errors
    /// When a proxy does not answer.
    pub(super) fn moved(&self, lab: &Lab) -> anyhow::Result<Vec<String>> {
        let mut moved = Vec::new();
        for (proxy, before) in &self.0 {
            if sum(lab, proxy, self.1)? > *before {
                moved.push(proxy.clone());
            }
        }
        Ok(moved)
    }
}

fn sum(lab: &Lab, proxy: &str, trace: Trace) -> anyhow::Result<u64> {
    let metrics = lab.metrics(proxy)?;
    let values = trace
        .series()
        .iter()
        .filter_map(|&series| metrics.get(series));
    Ok(values.sum())
}

/// A connection of the client on which `act` was done, and the proxy that was concerned.
///
/// # Errors
/// When that fails, or it cannot be told who was.
pub(super) fn concerned<T>(
    lab: &Lab,
    trace: Trace,
    act: impl FnOnce(&mut Connection) -> anyhow::Result<T>,
) -> anyhow::Result<(Connection, T, String)> {
    let before = Before::now(lab, trace)?;
    let mut connection = Connection::to_vip(lab)?;
    let done = act(&mut connection)?;
    let proxy = before.one_moved(lab)?;
    Ok((connection, done, proxy))
}

/// Waits until a server has the request that was sent on a connection: nothing that a client sees.
///
/// # Errors
/// When none gets it.
pub(super) fn adopted(lab: &Lab, server: &str, before: u64) -> anyhow::Result<()> {
    wait_until(&format!("{server} has the request"), PATIENCE, || {
        Ok(adoptions(lab, server)? > before)
    })
}

/// How many flows a server has adopted.
///
/// # Errors
/// When it does not answer.
pub(super) fn adoptions(lab: &Lab, server: &str) -> anyhow::Result<u64> {
    lab.counter(
        server,
        "baton_packets_total{role=\"backend\",verdict=\"adopted\",reason=\"bind\"}",
    )
}

pub(super) fn names(hosts: &[Host]) -> Vec<String> {
    hosts.iter().map(|host| host.name.clone()).collect()
}

/// `baton status --json` on a host.
///
/// # Errors
/// When nobody answers.
pub(super) fn status(lab: &Lab, host: &str) -> anyhow::Result<Value> {
    let mut status = lab.netns(host).command(lab.baton());
    let text = command::run(status.args(["status", "--json"]))?;
    serde_json::from_str(&text).context("baton status told no JSON")
}

/// How many proxies a proxy takes for live, itself included.
///
/// # Errors
/// When it does not answer.
pub(super) fn live(lab: &Lab, proxy: &str) -> anyhow::Result<u64> {
    lab.counter(proxy, LIVE)
}

/// The proxies that a balancer gives packets to.
fn given(lab: &Lab, balancer: &str) -> anyhow::Result<BTreeSet<String>> {
    let metrics = lab.metrics(balancer)?;
    let some = metrics.iter().filter(|(_, value)| **value > 0);
    let name = |series: &str| {
        let rest = series.strip_prefix("baton_balancer_share_per_mille{proxy=\"")?;
        Some(rest.strip_suffix("\"}")?.to_owned())
    };
    Ok(some.filter_map(|(series, _)| name(series)).collect())
}

/// Whether a balancer has the VIP.
fn holds(lab: &Lab, balancer: &str) -> anyhow::Result<bool> {
    Ok(lab.metric(balancer, "baton_balancer_holds")? == Some(1))
}

/// Waits until all others take these nodes for gone.
///
/// # Errors
/// When somebody does not.
pub(in crate::scenarios) fn noticed(lab: &Lab, gone: &[&str]) -> anyhow::Result<()> {
    agreed(lab, gone)
}

/// Waits until every proxy and balancer takes every proxy for live, and one balancer has the VIP.
///
/// # Errors
/// When somebody does not.
pub(in crate::scenarios) fn whole(lab: &Lab) -> anyhow::Result<()> {
    agreed(lab, &[])
}

/// Waits until all but these take all but these for live, and no others.
fn agreed(lab: &Lab, gone: &[&str]) -> anyhow::Result<()> {
    if !lab.options.shared() {
        return Ok(());
    }
    let left = |hosts: &[Host]| -> Vec<String> {
        let names = names(hosts).into_iter();
        names
            .filter(|name| !gone.contains(&name.as_str()))
            .collect()
    };
    let proxies = left(&lab.topology.proxies());
    let balancers = left(&lab.topology.balancers());
    let mut seen = String::new();
    let decided = wait_until("the proxies own all flows together", PATIENCE, || {
        let (mut agree, mut owned) = (true, 0);
        seen.clear();
        for proxy in &proxies {
            let metrics = lab.metrics(proxy)?;
            let value = |series| metrics.get(series).copied().unwrap_or_default();
            let (live, decides) = (value(LIVE), value("baton_decides"));
            let slots = value("baton_owned_slots");
            agree &= live == proxies.len() as u64 && decides == 1;
            owned += slots;
            seen += &format!("{proxy} sees {live}, owns {slots}, decides: {decides}; ");
        }
        Ok(agree && owned == SLOTS)
    });
    decided.with_context(|| seen.clone())?;
    let expected: BTreeSet<String> = proxies.iter().cloned().collect();
    for balancer in &balancers {
        let mut seen = BTreeSet::new();
        let what = format!("{balancer} gives packets to {expected:?}");
        let waited = wait_until(&what, PATIENCE, || {
            seen = given(lab, balancer)?;
            Ok(seen == expected)
        });
        waited.with_context(|| format!("it gives them to {seen:?}"))?;
    }
    if balancers.is_empty() {
        return Ok(());
    }
    wait_until("one balancer has the VIP", PATIENCE, || {
        let holders = balancers.iter().map(|balancer| holds(lab, balancer));
        let holders: Vec<bool> = holders.collect::<anyhow::Result<_>>()?;
        Ok(holders.iter().filter(|holds| **holds).count() == 1)
    })
}

/// All is as in the beginning: cables carry, programs run, everybody hears everybody.
///
/// # Errors
/// When something does not come back.
pub(super) fn healed(lab: &mut Lab) -> anyhow::Result<()> {
    let hosts = lab.nodes();
    for host in &hosts {
        lab.mend(&host.name)?;
        if lab.runs(&host.name) {
            lab.thaw_node(&host.name)?;
        } else {
            lab.launch(&host.name)?;
        }
    }
    for host in &hosts {
        lab.ready(&host.name)?;
    }
    if lab.options.spread_by_client() {
        lab.spread_over(&lab.topology.proxies().iter().collect::<Vec<_>>())?;
    }
    whole(lab)
}

/// A proxy's machine is lost to everybody. Without a balancer the router notices too, some time later.
///
/// # Errors
/// When the lab does not do it, or nobody notices.
pub(super) fn lose(lab: &Lab, proxies: &[&str]) -> anyhow::Result<()> {
    for proxy in proxies {
        lab.cut(proxy)?;
    }
    if lab.options.spread_by_client() {
        noticed(lab, proxies)?;
        let all = lab.topology.proxies();
        let left: Vec<&Host> = all
            .iter()
            .filter(|host| !proxies.contains(&host.name.as_str()))
            .collect();
        ensure!(!left.is_empty(), "no proxy is left to send to");
        lab.spread_over(&left)?;
    }
    Ok(())
}
