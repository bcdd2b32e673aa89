//! H16: first segments with made-up cookies, as fast as a host can send them, beside real requests.

use std::thread;

use anyhow::{anyhow, ensure};

use super::{Ground, PROXY};
use crate::client::{Connection, Expected, Request};
use crate::cluster::{Lab, POOLS, requirements};
use crate::command;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

const FLOOD: &str = include_str!("forged.py");

pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    if ground.is_ipv6() {
        return Ok(());
    }
    recorder.case("H16/forged-acks", |counts| {
        forged(ground.lab()?, counts, if short { 3 } else { 20 })
    })
}

fn forged(lab: &mut Lab, counts: &mut Counts, seconds: u32) -> anyhow::Result<String> {
    requirements::require(requirements::PYTHON, "python3")?;
    let file = lab.content.file("1KB")?;
    let series = |verdict: &str, reason: &str| {
        format!("baton_packets_total{{role=\"proxy\",verdict=\"{verdict}\",reason=\"{reason}\"}}")
    };
    let (dropped, begun) = (
        series("dropped", "bad_cookie"),
        series("punted", "first_request"),
    );
    let before = (lab.counter(PROXY, &dropped)?, lab.counter(PROXY, &begun)?);
    let vip = lab.vip();
    let mut flood = lab.netns("client").command(requirements::PYTHON);
    flood.args(["-c", FLOOD]);
    flood.args([
        vip.ip().to_string(),
        vip.port().to_string(),
        seconds.to_string(),
    ]);
    let flood = thread::spawn(move || command::run(&mut flood));
    let (mut connections, mut requests) = (0, 0);
    while !flood.is_finished() {
        let mut connection = Connection::to_vip(lab)?;
        connections += 1;
        for (pool, server) in POOLS.iter().zip(SERVERS) {
            let answer = connection.ask(&Request::new("GET", format!("/{pool}/1KB")));
            counts.check(answer, &Expected::file(server, &file))?;
            requests += 1;
        }
    }
    let sent: u64 = flood
        .join()
        .map_err(|_| anyhow!("the flood broke"))??
        .trim()
        .parse()?;
    let refused = lab.counter(PROXY, &dropped)? - before.0;
    ensure!(
        sent > 1000 && refused >= sent / 2,
        "{sent} sent, {refused} dropped for their cookies"
    );
    // Only a first request makes an entry. One forged cookie in four million is right.
    let entries = lab.counter(PROXY, &begun)? - before.1;
    ensure!(
        entries <= connections + 2,
        "{entries} first requests of {connections} connections"
    );
    Ok(format!(
        "{sent} forged segments, {refused} seen and dropped, beside {requests} requests on {connections} connections"
    ))
}
