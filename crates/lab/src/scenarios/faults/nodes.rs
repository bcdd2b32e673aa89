//! What the nodes of a lab say: who is live, and whose counters move.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::client::Connection;
use crate::cluster::{Lab, wait_until};
use crate::command;
use crate::topology::{Host, Kind};

/// Nodes notice that another is gone or back within this time (three heartbeats and a half, of a second at most), on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// What a node says in its log when it takes another for gone.
pub(in crate::scenarios) const TAKEN_FOR_GONE: &str = "is out";
/// How a node that is in is told.
pub(super) const LIVE: &str = "live";
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

/// How a node takes another: `live`, or why not.
///
/// # Errors
/// When the node does not answer.
fn state_of(lab: &Lab, viewer: &str, node: &str) -> anyhow::Result<String> {
    let status = status(lab, viewer)?;
    let nodes = status["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    let found = nodes.iter().find(|known| known["name"] == node);
    Ok(found.map_or_else(
        || "unknown".to_owned(),
        |known| known["state"].as_str().unwrap_or_default().to_owned(),
    ))
}

/// Those who watch the proxies: proxies and balancers, but not `except`.
fn watchers(lab: &Lab, except: &[&str]) -> Vec<String> {
    let hosts = lab.topology.servers().into_iter();
    hosts
        .filter(|host| matches!(host.kind, Kind::Proxy | Kind::Balancer))
        .map(|host| host.name)
        .filter(|name| !except.contains(&name.as_str()))
        .collect()
}

/// Waits until all others take these nodes for gone.
///
/// # Errors
/// When somebody does not.
pub(super) fn noticed(lab: &Lab, gone: &[&str]) -> anyhow::Result<()> {
    for watcher in watchers(lab, gone) {
        for node in gone {
            wait_until(
                &format!("{watcher} takes {node} for gone"),
                PATIENCE,
                || Ok(state_of(lab, &watcher, node)? != LIVE),
            )?;
        }
    }
    Ok(())
}

/// Waits until every proxy and balancer takes every other for live.
///
/// # Errors
/// When somebody does not, with what it says instead.
pub(in crate::scenarios) fn whole(lab: &Lab) -> anyhow::Result<()> {
    let all = watchers(lab, &[]);
    if all.len() == 1 {
        return Ok(());
    }
    for watcher in &all {
        for node in all.iter().filter(|node| *node != watcher) {
            let mut state = String::new();
            let waited = wait_until(
                &format!("{watcher} takes {node} for live"),
                PATIENCE,
                || {
                    state = state_of(lab, watcher, node)?;
                    Ok(state == LIVE)
                },
            );
            waited.with_context(|| format!("it says {state:?}"))?;
        }
    }
    Ok(())
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
