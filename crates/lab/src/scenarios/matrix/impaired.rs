//! Section 4: all kinds of transfers on cables with faults.

use std::time::Duration;

use super::Ground;
use super::downloads::get;
use super::rotation::rotate;
use super::uploads::{NO_EXPECT, put};
use crate::client::{Connection, Expected, Request};
use crate::cluster::{Lab, POOLS};
use crate::impair::Faults;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    let lan = Faults {
        loss: 0.01,
        reorder: 0.03,
        duplicate: 0.01,
        ..Faults::default()
    };
    let long = Faults {
        delay: Duration::from_millis(25),
        loss: 0.001,
        ..Faults::default()
    };
    for (name, faults) in [("loss-reorder-duplicate", lan), ("50ms-loss", long)] {
        let mut ground = ground.other(|options| options.faults = faults);
        let (file, requests) = if short { ("1MB", 30) } else { ("20MB", 999) };
        let case = |what: &str| format!("4/{name}/{what}");
        recorder.case(&case("downloads"), |counts| {
            let lab = ground.lab()?;
            let told: anyhow::Result<Vec<String>> =
                (0..3).map(|pool| get(lab, counts, pool, file)).collect();
            Ok(told?.join("; "))
        })?;
        recorder.case(&case("uploads"), |counts| {
            let lab = ground.lab()?;
            for pool in 0..3 {
                put(lab, counts, lab.vip(), pool, file, &[NO_EXPECT])?;
            }
            Ok(format!("{file} to each server"))
        })?;
        let rotation = case("three-pools-one-connection");
        recorder.case(&rotation, |counts| {
            rotate(ground.lab()?, counts, requests, &rotation)
        })?;
        recorder.case(&case("pipelined"), |counts| {
            pipelined(ground.lab()?, counts, if short { 8 } else { 100 })
        })?;
    }
    Ok(())
}

/// Six requests at once on each connection, for all servers, with bodies of some windows between them.
fn pipelined(lab: &mut Lab, counts: &mut Counts, connections: usize) -> anyhow::Result<String> {
    const SIZES: [u64; 6] = [1_000, 100_000, 0, 300_000, 1, 46_000];
    for number in 0..connections {
        let mut connection = Connection::to_vip(lab)?;
        let mut expected = Vec::new();
        for (request, size) in SIZES.into_iter().enumerate() {
            // Pairs go to one server.
            let place = (number + request / 2) % POOLS.len();
            let file = lab.own_file(SERVERS[place], size)?;
            expected.push(Expected::file(SERVERS[place], &file));
            let path = format!("/{}/own/{size}", POOLS[place]);
            connection.send(&Request::new("GET", path))?;
        }
        for (request, expected) in expected.iter().enumerate() {
            counts
                .check(connection.answer("GET"), expected)
                .map_err(|error| {
                    error.context(format!(
                        "connection {}, request {}",
                        number + 1,
                        request + 1
                    ))
                })?;
        }
    }
    Ok(format!(
        "{} requests, six at once on {connections} connections",
        connections * SIZES.len()
    ))
}
