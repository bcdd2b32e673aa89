//! H1: a connection goes to another server only when its present one has let it go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use super::log::{logged, settle, wait_logged};
use super::rotation::rotate;
use super::{CLUSTER_PORT, Ground, PROXY};
use crate::client::{Answer, Connection, Dial, Expected, Request};
use crate::cluster::{Lab, wait_until};
use crate::impair::Fate;
use crate::impair::frame::datagram;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

/// Kinds of messages between nodes (docs/wire.md).
const RELEASE: u8 = 3;
const RELEASE_ANSWER: u8 = 4;

const REBINDS: &str = "baton_rebinds_total";
const BUSY: &str = "baton_releases_total{outcome=\"busy\"}";
const CLOSED: &str = "baton_releases_total{outcome=\"closed\"}";

/// A client that is to be told that its connection is over hears of it within this time.
const AT_ONCE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(10);
/// Of the server, see `/brief`.
const KEEPALIVE: Duration = Duration::from_millis(100);
const RACERS: usize = 8;

/// `ground` has the proxy's cable tapped.
pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    recorder.case("H1/release-lost", |counts| {
        release_lost(ground.lab()?, counts, if short { 12 } else { 60 })
    })?;
    recorder.case("H1/keepalive-fin-races", |counts| {
        fin_races(ground.lab()?, counts, if short { 20 } else { 200 })
    })?;
    recorder.case("H1/server-restarted", |counts| {
        server_restarted(ground.lab()?, counts)
    })?;
    recorder.case("H1/busy", |counts| busy(ground.lab()?, counts))?;
    recorder.case("H1/closed", |counts| closed(ground.lab()?, counts))
}

/// Of the releases, and of the answers that come of the others, each second one is lost.
fn release_lost(lab: &mut Lab, counts: &mut Counts, requests: usize) -> anyhow::Result<String> {
    let (lost, before) = (Arc::new(AtomicUsize::new(0)), lab.counter(PROXY, REBINDS)?);
    let loses = Arc::clone(&lost);
    let mut seen = [0; 2];
    let _ruled = lab.tap(PROXY)?.rule(move |_, frame| {
        let seen = match *datagram(frame, CLUSTER_PORT)?.get(3)? {
            RELEASE => &mut seen[0],
            RELEASE_ANSWER => &mut seen[1],
            _ => return None,
        };
        *seen += 1;
        if *seen % 2 == 0 {
            return None;
        }
        loses.fetch_add(1, Ordering::Relaxed);
        Some(Fate::LOST)
    });
    let told = rotate(lab, counts, requests, "H1/release-lost")?;
    let (lost, moved) = (
        lost.load(Ordering::Relaxed),
        lab.counter(PROXY, REBINDS)? - before,
    );
    ensure!(
        lost >= requests && moved >= requests as u64 - 1,
        "{lost} messages lost, {moved} moves: nothing is proved"
    );
    Ok(format!("{told}; {lost} messages lost"))
}

/// The server closes a connection that was idle for some time, just when a request for another server comes: it is answered, or the
/// connection is over and nobody has executed it.
fn fin_races(lab: &mut Lab, counts: &mut Counts, rounds: usize) -> anyhow::Result<String> {
    let round_trip = 2 * lab.options.faults.delay;
    let (sender, answers) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        for racer in 0..RACERS {
            let (lab, sender) = (&*lab, sender.clone());
            scope.spawn(move || {
                for round in 0..rounds {
                    let number = racer * rounds + round;
                    let asked = race(lab, number, pause(number, round_trip));
                    if sender.send((number, asked)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    drop(sender);
    settle();
    let (mut answered, mut closed) = (0, 0);
    for (number, asked) in answers {
        let words = mark(number);
        match asked? {
            Some(answer) => {
                answered += 1;
                let name = format!("{}\n", SERVERS[1]);
                let expected = Expected::status(200, SERVERS[1]).bytes(name.as_bytes());
                counts.check(Ok(answer), &expected)?;
                let times = wait_logged(lab, SERVERS[1], &words, 1)?;
                ensure!(times == 1, "a request was executed {times} times");
            }
            None => {
                closed += 1;
                let times = logged(lab, SERVERS[1], &words)?;
                ensure!(
                    times == 0,
                    "a request without an answer was executed {times} times"
                );
            }
        }
        let strangers = logged(lab, SERVERS[0], &words)? + logged(lab, SERVERS[2], &words)?;
        ensure!(strangers == 0, "another server has executed a request");
    }
    ensure!(
        answered > 0 && closed > 0,
        "{answered} answered, {closed} closed: nothing is proved"
    );
    Ok(format!(
        "{answered} answered, {closed} closed; none executed without an answer"
    ))
}

/// From well before the server's time-out to a little after it: the server's clock begins when its answer leaves, the client's when it
/// has come.
fn pause(number: usize, round_trip: Duration) -> Duration {
    let spread = Duration::from_micros(397 * (number as u64 % 71));
    (KEEPALIVE + Duration::from_millis(6) + spread)
        .saturating_sub(Duration::from_millis(20) + round_trip)
}

fn mark(number: usize) -> String {
    format!("?race={number}. ")
}

/// `None`: the connection was closed.
fn race(lab: &Lab, number: usize, pause: Duration) -> anyhow::Result<Option<Answer>> {
    let mut connection = Connection::to_vip(lab)?;
    connection.ask(&Request::new("GET", "/a/brief"))?;
    thread::sleep(pause);
    let path = format!("/b/whoami{}", mark(number).trim_end());
    answered_or_closed(&mut connection, &Request::new("GET", path))
}

fn answered_or_closed(
    connection: &mut Connection,
    request: &Request,
) -> anyhow::Result<Option<Answer>> {
    let start = Instant::now();
    let answer = connection.ask(request);
    let waited = start.elapsed();
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(_) if waited < AT_ONCE => Ok(None),
        Err(error) => Err(error.context(format!("nothing for {} s", waited.as_secs()))),
    }
}

/// The server's program ends and begins again between two requests: its connections are over, no other is harmed.
fn server_restarted(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let file = lab.content.file("1KB")?;
    let first = Request::new("GET", "/a/1KB");
    let mut connections = Vec::new();
    for _ in 0..2 {
        let mut connection = Connection::to_vip(lab)?;
        counts.check(connection.ask(&first), &Expected::file(SERVERS[0], &file))?;
        connections.push(connection);
    }
    lab.restart_web_server(SERVERS[0])?;
    let mut told = Vec::new();
    for (connection, (pool, server)) in connections
        .iter_mut()
        .zip([("a", SERVERS[0]), ("b", SERVERS[1])])
    {
        let path = format!("/{pool}/1KB?restarted");
        let answer = answered_or_closed(connection, &Request::new("GET", path))?;
        told.push(if answer.is_some() {
            "answered"
        } else {
            "closed"
        });
        let expected = Expected::file(server, &file);
        if let Some(answer) = answer {
            counts.check(Ok(answer), &expected)?;
        } else {
            settle();
            let times = logged(lab, server, "?restarted ")?;
            ensure!(times == 0, "{server} executed what it did not answer");
        }
        let again = Connection::to_vip(lab)?.ask(&Request::new("GET", format!("/{pool}/1KB")));
        counts.check(again, &expected)?;
    }
    Ok(format!(
        "old connections: {}; new ones answered",
        told.join(", ")
    ))
}

/// A request for another server waits for the answer before it, which its client does not read.
fn busy(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let large = lab.own_file(SERVERS[0], 3_000_000)?;
    let small = lab.own_file(SERVERS[1], 1000)?;
    let before = lab.counter(PROXY, BUSY)?;
    let mut connection = Dial {
        receive_buffer: Some(16_384),
        ..Dial::default()
    }
    .vip(lab)?;
    connection.send(&Request::new("GET", "/a/own/3000000"))?;
    connection.send(&Request::new("GET", "/b/own/1000"))?;
    wait_until("the server said that it is busy", PATIENCE, || {
        Ok(lab.counter(PROXY, BUSY)? > before)
    })?;
    let executed = logged(lab, SERVERS[1], "/b/own/1000 ")?;
    for (server, file) in [(SERVERS[0], &large), (SERVERS[1], &small)] {
        counts.check(connection.answer("GET"), &Expected::file(server, file))?;
    }
    ensure!(
        wait_logged(lab, SERVERS[1], "/b/own/1000 ", executed + 1)? == executed + 1,
        "the second request was executed more than once"
    );
    Ok("the request waited, and both answers are right".into())
}

/// The server has closed after its answer: a request for another server has no answer, as on a direct connection, and nobody executes it.
fn closed(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let file = lab.content.file("1KB")?;
    let before = lab.counter(PROXY, CLOSED)?;
    let mut connection = Connection::to_vip(lab)?;
    let first = Request::new("GET", "/a/1KB").header("Connection", "close");
    counts.check(connection.ask(&first), &Expected::file(SERVERS[0], &file))?;
    let next = Request::new("GET", "/b/1KB?after-close");
    if let Some(answer) = answered_or_closed(&mut connection, &next)? {
        bail!("answered by {}", answer.server());
    }
    settle();
    for server in SERVERS {
        let times = logged(lab, server, "?after-close ")?;
        ensure!(times == 0, "{server} has executed the request");
    }
    let told = lab.counter(PROXY, CLOSED)? - before;
    ensure!(told > 0, "no server said that it has closed");
    let again = Connection::to_vip(lab).and_then(|mut fresh| fresh.ask(&next));
    counts.check(again, &Expected::file(SERVERS[1], &file))?;
    Ok("closed, and executed by nobody".into())
}
