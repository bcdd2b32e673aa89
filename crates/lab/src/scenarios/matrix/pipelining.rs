//! Section 2: several requests are sent before the first is answered.

use anyhow::Context;

use super::Ground;
use super::rotation::logged_exactly;
use crate::client::{Connection, Expected};
use crate::cluster::{Lab, POOLS};
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

/// Of what is sent at once, by the place of its pool.
const KINDS: [(&str, &[usize]); 4] = [
    ("two-same", &[0, 0]),
    ("two-mixed", &[0, 1]),
    ("five-same", &[0, 0, 0, 0, 0]),
    ("five-mixed", &[0, 1, 2, 0, 1]),
];

/// On each connection, each beginning at another pool.
const BURSTS: usize = 6;

pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    let connections = if short { 10 } else { 100 };
    for (kind, pools) in KINDS {
        for together in [true, false] {
            let segments = if together { "" } else { "/segments" };
            let name = format!("2/pipelined-{kind}{segments}");
            recorder.case(&name, |counts| {
                let mark = format!("case={}", name.replace('/', "."));
                pipelined(ground.lab()?, counts, &mark, pools, together, connections)
            })?;
        }
    }
    Ok(())
}

fn pipelined(
    lab: &mut Lab,
    counts: &mut Counts,
    mark: &str,
    pools: &[usize],
    together: bool,
    connections: usize,
) -> anyhow::Result<String> {
    let mut asked = [0; SERVERS.len()];
    let files = (
        lab.content.file("1KB")?,
        SERVERS
            .iter()
            .map(|server| lab.unique(server))
            .collect::<Result<Vec<_>, _>>()?,
    );
    for connection in 0..connections {
        let mut client = Connection::to_vip(lab)?;
        for burst in 0..BURSTS {
            let mut expected = Vec::new();
            let mut requests = Vec::new();
            for (number, pool) in pools.iter().enumerate() {
                let pool = (pool + connection + burst) % POOLS.len();
                asked[pool] += 1;
                // The last is a HEAD, and of the others every second one has 64 KiB that only this server has.
                let last = number + 1 == pools.len();
                let (method, path) = match (last, (number + burst) % 2) {
                    (true, _) => ("HEAD", "1KB"),
                    (_, 0) => ("GET", "unique"),
                    _ => ("GET", "1KB"),
                };
                let server = SERVERS[pool];
                let answer = match (method, path) {
                    ("HEAD", _) => Expected::status(200, server).bytes(&[]),
                    (_, "1KB") => Expected::file(server, &files.0),
                    _ => Expected::file(server, &files.1[pool]),
                };
                let pool = POOLS[pool];
                requests.push(format!(
                    "{method} /{pool}/{path}?{mark} HTTP/1.1\r\nHost: x\r\n\r\n"
                ));
                expected.push((method, answer));
            }
            if together {
                client.write(requests.concat().as_bytes())?;
            } else {
                requests
                    .iter()
                    .try_for_each(|request| client.write(request.as_bytes()))?;
            }
            for (number, (method, expected)) in expected.iter().enumerate() {
                let answer = client.answer(method);
                counts.check(answer, expected).with_context(|| {
                    format!("connection {connection}, burst {burst}, request {number}")
                })?;
            }
        }
    }
    for (server, asked) in SERVERS.iter().zip(asked) {
        logged_exactly(lab, server, mark, asked)?;
    }
    Ok(format!(
        "{} requests on {connections} connections, in order, each executed once",
        connections * BURSTS * pools.len()
    ))
}
