//! 5.3: many requests on one connection, alternating over three pools.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::{Place, complete};
use crate::client::{Expected, Plan, Request, fetch};
use crate::cluster::{Lab, POOLS, wait_until};
use crate::command;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

/// Within this time the servers' logs are written and their sockets gone.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn cases(recorder: &mut Recorder, place: &mut Place<'_, '_>) -> anyhow::Result<()> {
    let name = place.case_name("5.3", "three-pools-one-connection");
    let requests = place.path.requests;
    recorder.case(&name, |counts| {
        rotate(place.lab()?, counts, requests, &name)
    })
}

pub(super) fn rotate(
    lab: &mut Lab,
    counts: &mut Counts,
    requests: usize,
    name: &str,
) -> anyhow::Result<String> {
    let mark = format!("case={}", name.replace('/', "."));
    let shared = lab.content.file("1KB")?;
    let (mut plan, mut expected) = (
        Plan {
            to: lab.vip(),
            requests: Vec::new(),
        },
        Vec::new(),
    );
    for number in 0..requests {
        let (pool, server) = (POOLS[number % 3], SERVERS[number % 3]);
        // Every fourth round a file that is another one on each server: answers cannot be mixed unseen.
        let (path, file) = if number / 3 % 4 == 3 {
            ("unique", lab.unique(server)?)
        } else {
            ("1KB", shared.clone())
        };
        plan.requests
            .push(Request::new("GET", format!("/{pool}/{path}?{mark}")));
        expected.push(Expected::file(server, &file));
    }
    let outcome = fetch(lab, &plan)?;
    for (number, (answer, expected)) in outcome.answers.iter().zip(&expected).enumerate() {
        counts
            .check(Ok(answer.clone()), expected)
            .map_err(|error| error.context(format!("request {}", number + 1)))?;
    }
    if outcome.error.is_some() {
        counts.transfers += 1;
        counts.failed += 1;
    }
    let mut seconds: Vec<f64> = complete(outcome)?
        .iter()
        .map(|answer| answer.seconds)
        .collect();
    seconds.sort_by(f64::total_cmp);
    logs_agree(lab, requests, &mark)?;
    no_dead_sockets(lab)?;
    let (all, median, slowest) = (
        seconds.iter().sum::<f64>(),
        seconds[requests / 2],
        seconds[requests - 1],
    );
    Ok(format!(
        "{requests} requests in {all:.1} s, median {median:.4}, slowest {slowest:.3}; logs agree, no socket left"
    ))
}

/// Each server has logged exactly the requests that the client had answered by it.
fn logs_agree(lab: &Lab, requests: usize, mark: &str) -> anyhow::Result<()> {
    for (number, server) in SERVERS.iter().enumerate() {
        logged_exactly(lab, server, mark, (requests + 2 - number) / 3)?;
    }
    Ok(())
}

/// A server has logged so many requests with this query, and no more.
pub(super) fn logged_exactly(
    lab: &Lab,
    server: &str,
    mark: &str,
    expected: usize,
) -> anyhow::Result<()> {
    let logged = || logged(lab, server, mark).map(|lines| lines.len());
    // The log is written a moment after the answer.
    wait_until(
        &format!("{server} has logged {expected} requests"),
        PATIENCE,
        || Ok(logged()? >= expected),
    )
    .map_err(|error| error.context(format!("it has logged {}", logged().unwrap_or_default())))?;
    let logged = logged()?;
    ensure!(
        logged == expected,
        "{server} has logged {logged} requests instead of {expected}"
    );
    Ok(())
}

/// The lines that a server has logged of requests with this query.
pub(super) fn logged(lab: &Lab, server: &str, mark: &str) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(lab.dir(server).join("access.log"))?;
    let mark = format!("?{mark} ");
    Ok(text
        .lines()
        .filter(|line| line.contains(&mark))
        .map(str::to_owned)
        .collect())
}

/// The connection is closed: soon no host has a socket to the client any more.
pub(super) fn no_dead_sockets(lab: &Lab) -> anyhow::Result<()> {
    let client = match lab.topology.client().address(lab.options.family()) {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    for host in lab.topology.servers() {
        let netns = lab.netns(&host.name);
        let sockets = || command::run(netns.command("ss").args(["-Htn", "dst", &client]));
        let gone = || Ok(sockets()?.is_empty());
        wait_until(
            &format!("{} has no socket to the client", host.name),
            PATIENCE,
            gone,
        )
        .with_context(|| format!("left: {}", sockets().unwrap_or_default().trim()))?;
    }
    Ok(())
}
