//! Section 4: a request's head in several segments, out of order and twice.

use anyhow::ensure;

use super::Ground;
use crate::client::{Connection, Expected};
use crate::cluster::{Lab, POOLS};
use crate::impair::Faults;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

/// Of a head.
const SEGMENTS: usize = 3;

pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    let (connections, requests) = if short { (10, 9) } else { (40, 30) };
    for (name, faults) in [
        ("in-order", Faults::default()),
        (
            "out-of-order-and-twice",
            Faults {
                reorder: 0.2,
                duplicate: 0.2,
                ..Faults::default()
            },
        ),
    ] {
        let mut ground = ground.other(|options| options.faults = faults);
        recorder.case(&format!("4/split-head/{name}"), |counts| {
            split_heads(ground.lab()?, counts, connections, requests)
        })?;
    }
    Ok(())
}

/// Each connection's first request, and the later ones, which go to another server each.
fn split_heads(
    lab: &mut Lab,
    counts: &mut Counts,
    connections: usize,
    requests: usize,
) -> anyhow::Result<String> {
    let file = lab.content.file("1KB")?;
    let proxy = super::PROXY;
    let (to_relay, binds) = (
        "baton_decisions_total{event=\"to_relay\"}",
        "baton_binds_total",
    );
    let before = (lab.counter(proxy, to_relay)?, lab.counter(proxy, binds)?);
    for number in 0..connections {
        let mut connection = Connection::to_vip(lab)?;
        for request in 0..requests {
            let place = (number + request) % POOLS.len();
            let head = format!(
                "GET /{}/1KB HTTP/1.1\r\nHost: {}\r\nX-Padding: {}\r\n\r\n",
                POOLS[place],
                lab.vip(),
                "x".repeat(200)
            );
            for part in head.as_bytes().chunks(head.len().div_ceil(SEGMENTS)) {
                connection.write(part)?;
            }
            let answer = connection.answer("GET");
            counts
                .check(answer, &Expected::file(SERVERS[place], &file))
                .map_err(|error| {
                    error.context(format!(
                        "connection {}, request {}",
                        number + 1,
                        request + 1
                    ))
                })?;
        }
    }
    let relayed = lab.counter(proxy, to_relay)? - before.0;
    let bound = lab.counter(proxy, binds)? - before.1;
    ensure!(
        relayed == 0,
        "{relayed} of {connections} connections went to the proxy's relay"
    );
    Ok(format!(
        "{} heads in {SEGMENTS} segments each on {connections} connections, {bound} bound, {relayed} relayed",
        connections * requests
    ))
}
