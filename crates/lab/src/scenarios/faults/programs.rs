//! 5.2: the proxy's process is killed, or another takes its place: what is in the kernel goes on.

use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::load::{MIXED, under_load};
use super::moments::{asked_once, soon};
use super::nodes::{Before, Trace};
use crate::client::{Connection, Expected, Request, Socket};
use crate::cluster::{Lab, POOLS, digest};
use crate::report::Counts;
use crate::scenarios::SERVERS;
use crate::topology::Host;

/// Read while nothing runs in user space.
const PART: usize = 10_000_000;
/// An echo that takes longer has met a pause: less than a client's shortest retransmission timeout.
const PAUSE: Duration = Duration::from_millis(150);
const ECHOES: usize = 20;
/// Of three proxies one has a third of the connections.
const TRIES: usize = 60;
/// Between the end of a process and the start of the next.
const DOWN: Duration = Duration::from_millis(700);

/// How the process ends.
#[derive(Clone, Copy)]
pub(super) enum End {
    Killed,
    HandedOver,
}

/// What is open when the process ends goes on without it; what it would have to decide waits for the next one.
pub(super) fn ends(
    lab: &mut Lab,
    counts: &mut Counts,
    file: &str,
    end: End,
) -> anyhow::Result<String> {
    let file = lab.content.file(file)?;
    let (mut asking, owner) = asked_once(lab, counts)?;
    let mut socket = of_owner(lab, &owner, |connection| {
        let mut socket = Socket::open(connection, POOLS[1])?;
        socket.echo(1, 1000)?;
        Ok(socket)
    })?;
    let name = file.path.file_name().unwrap_or_default();
    let request = Request::new("GET", format!("/a/{}", name.display()));
    let (mut download, mut answer) = of_owner(lab, &owner, |mut connection| {
        connection.send(&request)?;
        let answer = connection.head()?;
        Ok((connection, answer))
    })?;

    match end {
        End::Killed => lab.kill_node(&owner)?,
        End::HandedOver => lab.hand_over(&owner)?,
    }
    counts.transfers += 1;
    let mut slowest = Duration::ZERO;
    for number in 2..ECHOES {
        let start = Instant::now();
        let echoed = socket.echo(number, 1000).context("while nothing runs");
        echoed.inspect_err(|_| counts.failed += 1)?;
        slowest = slowest.max(start.elapsed());
    }
    ensure!(
        slowest < PAUSE,
        "a flow paused for {} ms",
        slowest.as_millis()
    );
    let mut body = vec![0; PART.min(file.bytes as usize)];
    let start = Instant::now();
    let read = download.input().read_exact(&mut body);
    read.context("a download while nothing runs")?;
    let took = start.elapsed();

    // Its decision needs the process.
    asking.send(&Request::new("GET", "/b/1KB"))?;
    let asked = Instant::now();
    std::thread::sleep(DOWN);
    ensure!(!lab.runs(&owner), "{owner} runs: nothing is proved");
    lab.launch(&owner)?;
    let small = lab.content.file("1KB")?;
    counts.check(asking.answer("GET"), &Expected::file(SERVERS[1], &small))?;
    let waited = soon(asked)?;
    lab.ready(&owner)?;

    let left = file.bytes - body.len() as u64;
    let mut whole = (&body[..]).chain(download.input().take(left));
    (answer.bytes, answer.sha256) = digest(&mut whole)?;
    counts.check(Ok(answer), &Expected::file(SERVERS[0], &file))?;
    for pool in [2, 0, 1] {
        super::moments::small(lab, counts, &mut asking, pool)?;
        super::moments::small(lab, counts, &mut download, pool)?;
    }
    socket.echo(ECHOES, 1000)?;
    socket.close()?;
    Ok(format!(
        "{owner}'s process ended: the slowest echo took {} ms, 10 MB came in {:.1} s; a request waited {waited} for the next process",
        slowest.as_millis(),
        took.as_secs_f64()
    ))
}

/// Connections are opened until this proxy decides about one.
fn of_owner<T>(
    lab: &Lab,
    owner: &str,
    open: impl Fn(Connection) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    for _ in 0..TRIES {
        let before = Before::now(lab, Trace::Decided)?;
        let opened = open(Connection::to_vip(lab)?)?;
        if before.one_moved(lab)? == owner {
            return Ok(opened);
        }
    }
    bail!("{owner} decides about none of {TRIES} connections")
}

/// Each of these nodes' process ends and is started again, several times, while transfers of all kinds run.
pub(super) fn under_transfers(
    lab: &mut Lab,
    counts: &mut Counts,
    nodes: &[Host],
    rounds: usize,
    seed: u64,
    end: End,
) -> anyhow::Result<String> {
    let nodes = super::nodes::names(nodes);
    under_load(lab, counts, &MIXED, seed, |lab, progress| {
        for owner in nodes.iter().cycle().take(rounds) {
            match end {
                End::Killed => lab.kill_node(owner)?,
                End::HandedOver => lab.hand_over(owner)?,
            }
            lab.launch(owner)?;
            lab.ready(owner)?;
            progress.goes_on()?;
        }
        Ok(())
    })?;
    Ok(format!("{rounds} times, under load"))
}
