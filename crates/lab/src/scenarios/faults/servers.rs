//! 5.5: a back end's machine is lost, with several proxies before it.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::Place;
use super::moments::{small, soon};
use super::nodes::{adoptions, status};
use crate::client::{Connection, Expected, Request};
use crate::cluster::{Lab, SPARSE, wait_until};
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough to be cut off meanwhile.
const THINKING_MS: u64 = 4000;

pub(super) fn cases(recorder: &mut Recorder, place: &mut Place<'_>) -> anyhow::Result<()> {
    place.case(recorder, "5.5/before-answer", before_answer)?;
    place.case(recorder, "5.5/in-answer", in_answer)
}

/// Another server answers, and the client sees nothing of it.
fn before_answer(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    usable(lab)?;
    let before = SERVERS.map(|server| adoptions(lab, server));
    let mut connection = Connection::to_vip(lab)?;
    connection.send(&Request::new(
        "GET",
        format!("/late?ms={THINKING_MS}&case=5.5"),
    ))?;
    let mut first = None;
    wait_until("a server has the request", PATIENCE, || {
        for (server, before) in SERVERS.into_iter().zip(&before) {
            if let Ok(before) = before
                && adoptions(lab, server)? > *before
            {
                first = Some(server);
            }
        }
        Ok(first.is_some())
    })?;
    let first = first.context("no server has the request")?;
    lab.cut(first)?;
    let start = Instant::now();
    let answer = connection.answer("GET")?;
    let second = answer.server().to_owned();
    ensure!(second != first, "{first} answered, which was cut off");
    counts.check(Ok(answer), &Expected::status(200, &second).bytes(b"late\n"))?;
    let took = soon(start)?;
    lab.mend(first)?;
    usable(lab)?;
    for pool in 0..SERVERS.len() {
        small(lab, counts, &mut connection, pool)?;
    }
    Ok(format!(
        "{first} was cut off, {second} answered after {took} of thinking"
    ))
}

/// The client is told at once.
fn in_answer(lab: &mut Lab, _: &mut Counts) -> anyhow::Result<String> {
    usable(lab)?;
    let mut connection = Connection::to_vip(lab)?;
    connection.send(&Request::new("GET", format!("/a/{}", SPARSE.0)))?;
    connection.input().read_exact(&mut vec![0; 1_000_000])?;
    lab.cut(SERVERS[0])?;
    let (start, mut bytes) = (Instant::now(), vec![0; 1 << 16]);
    loop {
        match connection.input().read(&mut bytes) {
            Ok(0) => anyhow::bail!("the connection ended as if all had come"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error).context("no reset"),
        }
    }
    let took = soon(start)?;
    lab.mend(SERVERS[0])?;
    usable(lab)?;
    Ok(format!("reset {took} after {} was cut off", SERVERS[0]))
}

/// Waits until every proxy uses every server.
fn usable(lab: &Lab) -> anyhow::Result<()> {
    for proxy in lab.topology.proxies() {
        wait_until(
            &format!("{} uses all servers", proxy.name),
            PATIENCE,
            || {
                let status = status(lab, &proxy.name)?;
                let servers = status["servers"].as_array().cloned().unwrap_or_default();
                Ok(servers.iter().all(|server| server["state"] == "usable"))
            },
        )?;
    }
    Ok(())
}
