//! 5.3, 5.4: several machines are lost at once, or one after the other, while transfers of all kinds run.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::load::{MIXED, under_load};
use super::moments::{small, soon};
use super::nodes::{adopted, adoptions, healed, lose, names, noticed, whole};
use crate::client::{Connection, Expected, Request};
use crate::cluster::Lab;
use crate::report::Counts;
use crate::scenarios::SERVERS;

/// One proxy after the other, with this between them.
const EVERY: Duration = Duration::from_secs(2);

/// Two of four, the first one, which decides when views differ, among them.
pub(super) fn two_of_four(lab: &mut Lab, counts: &mut Counts, seed: u64) -> anyhow::Result<String> {
    let gone = ["proxy1", "proxy3"];
    under_load(lab, counts, &MIXED, seed, |lab, progress| {
        lose(lab, &gone)?;
        noticed(lab, &gone)?;
        progress.goes_on()?;
        healed(lab)?;
        progress.goes_on()
    })?;
    Ok("proxy1 and proxy3 were cut off and came back".to_owned())
}

/// A proxy every two seconds, each in its turn, cut off or killed; each comes back before its next turn.
pub(super) fn every_two_seconds(
    lab: &mut Lab,
    counts: &mut Counts,
    seed: u64,
    duration: Duration,
) -> anyhow::Result<String> {
    let proxies = names(&lab.topology.proxies());
    let lost = under_load(lab, counts, &MIXED, seed, |lab, _| {
        let start = Instant::now();
        let mut turn = 0;
        while start.elapsed() < duration {
            let due = start + EVERY * turn;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let proxy = &proxies[turn as usize % proxies.len()];
            lab.cut(proxy)?;
            noticed(lab, &[proxy])?;
            lab.mend(proxy)?;
            whole(lab)?;
            turn += 1;
        }
        Ok(turn)
    })?;
    Ok(format!(
        "{lost} proxies, one after the other, in {} s",
        duration.as_secs()
    ))
}

/// All proxies' machines stop at once and start anew, with nothing in their kernels: what flows there were is known at the back ends only.
pub(super) fn all(lab: &mut Lab, counts: &mut Counts, seed: u64) -> anyhow::Result<String> {
    let proxies = names(&lab.topology.proxies());
    under_load(lab, counts, &MIXED, seed, |lab, progress| {
        restart_all(lab, &proxies)?;
        progress.goes_on()
    })?;
    let mut idle = Connection::to_vip(lab)?;
    small(lab, counts, &mut idle, 0)?;
    let mut thinking = Connection::to_vip(lab)?;
    let before = adoptions(lab, SERVERS[1])?;
    thinking.send(&Request::new("GET", "/b/late?ms=4000"))?;
    adopted(lab, SERVERS[1], before)?;
    restart_all(lab, &proxies)?;
    let start = Instant::now();
    small(lab, counts, &mut idle, 1)?;
    let took = soon(start)?;
    small(lab, counts, &mut idle, 2)?;
    let late = Expected::status(200, SERVERS[1]).bytes(b"late\n");
    counts.check(thinking.answer("GET"), &late)?;
    small(lab, counts, &mut thinking, 2)?;
    Ok(format!(
        "{} proxies started anew at once, under load and without; an idle connection's next request took {took}",
        proxies.len()
    ))
}

/// Nothing that the proxies knew is left.
fn restart_all(lab: &mut Lab, proxies: &[String]) -> anyhow::Result<()> {
    for proxy in proxies {
        lab.cut(proxy)?;
    }
    for proxy in proxies {
        lab.kill_node(proxy)?;
        lab.detach(proxy)?;
    }
    healed(lab)
}

/// The balancer that has the VIP is lost; the other one takes it.
pub(super) fn balancer(
    lab: &mut Lab,
    counts: &mut Counts,
    with: Option<&str>,
) -> anyhow::Result<String> {
    let mut connection = Connection::to_vip(lab)?;
    small(lab, counts, &mut connection, 0)?;
    let first = holder(lab)?;
    lab.cut(&first)?;
    if let Some(proxy) = with {
        lab.cut(proxy)?;
    }
    let start = Instant::now();
    small(lab, counts, &mut connection, 1)?;
    let mut new = Connection::to_vip(lab)?;
    small(lab, counts, &mut new, 2)?;
    let took = soon(start)?;
    let second = holder_but(lab, &first)?;
    healed(lab)?;
    for pool in [0, 1, 2] {
        small(lab, counts, &mut connection, pool)?;
    }
    Ok(format!(
        "{first} was cut off, {second} has the VIP; both connections were served after {took}"
    ))
}

/// The same under load, several times.
pub(super) fn balancer_under_load(
    lab: &mut Lab,
    counts: &mut Counts,
    seed: u64,
    rounds: usize,
    with: Option<&str>,
) -> anyhow::Result<String> {
    under_load(lab, counts, &MIXED, seed, |lab, progress| {
        for _ in 0..rounds {
            let balancer = holder(lab)?;
            let gone: Vec<&str> = std::iter::once(balancer.as_str()).chain(with).collect();
            for host in &gone {
                lab.cut(host)?;
            }
            noticed(lab, &gone)?;
            progress.goes_on()?;
            healed(lab)?;
            progress.goes_on()?;
        }
        Ok(())
    })?;
    Ok(format!("{rounds} times, under load"))
}

/// The balancer whose hardware address the client has for the VIP.
fn holder(lab: &Lab) -> anyhow::Result<String> {
    holder_but(lab, "")
}

fn holder_but(lab: &Lab, except: &str) -> anyhow::Result<String> {
    let known = lab.neighbour("client", lab.vip().ip())?;
    let hosts = names(&lab.topology.balancers())
        .into_iter()
        .filter(|name| name != except);
    for host in hosts {
        if known == lab.hardware_address(&host)? {
            return Ok(host);
        }
    }
    bail!("no balancer has the VIP: it is at {known:x?}")
}
