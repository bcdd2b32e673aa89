//! Section 2: answers that take their time: events, a long poll, a WebSocket.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::Ground;
use crate::client::{Chunks, Connection, Expected, Request, Socket};
use crate::cluster::Lab;
use crate::interrupt;
use crate::origin::unix_ms;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

/// An event is there so soon after it was sent (ms).
const SOON_MS: u64 = 1000;

pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    let (talk, poll_ms, events) = if short {
        (Duration::from_secs(5), 3_000, 10)
    } else {
        (Duration::from_mins(1), 10_000, 60)
    };
    recorder.case("2/websocket", |counts| {
        websocket(ground.lab()?, counts, talk)
    })?;
    recorder.case("2/server-sent-events", |counts| {
        server_sent_events(ground.lab()?, counts, events)
    })?;
    recorder.case("2/long-poll", |counts| {
        long_poll(ground.lab()?, counts, poll_ms)
    })
}

/// A handshake behind another request, then messages of all lengths and pings, each echoed before the next.
fn websocket(lab: &mut Lab, counts: &mut Counts, duration: Duration) -> anyhow::Result<String> {
    let mut connection = Connection::to_vip(lab)?;
    let first = connection.ask(&Request::new("GET", "/b/whoami"));
    counts.check(first, &Expected::status(200, SERVERS[1]))?;
    let mut socket = Socket::open(connection, "a")?;
    let (start, mut echoed) = (Instant::now(), 0);
    let lengths = [0, 5, 125, 126, 5_000, 65_535, 65_536, 200_000];
    for (number, length) in lengths.into_iter().cycle().enumerate() {
        interrupt::check()?;
        socket.echo(number, length)?;
        echoed += 1;
        if start.elapsed() >= duration {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    socket.close()?;
    Ok(format!(
        "{echoed} messages of up to 200 kB in {:.0} s",
        start.elapsed().as_secs_f64()
    ))
}

/// Each event arrives when it is sent; behind the last one the connection goes on, at another server.
fn server_sent_events(lab: &mut Lab, counts: &mut Counts, count: u64) -> anyhow::Result<String> {
    let mut connection = Connection::to_vip(lab)?;
    let path = format!("/c/events?count={count}&ms=300");
    connection.send(&Request::new("GET", path).header("Accept", "text/event-stream"))?;
    let head = connection.head()?;
    ensure!(
        (head.status, head.server()) == (200, SERVERS[2]),
        "{} from {}",
        head.status,
        head.server()
    );
    let (mut arrived, mut slowest) = (0, 0);
    for line in BufReader::new(Chunks::new(connection.input())).lines() {
        let line = line?;
        let Some(event) = line.strip_prefix("data: ") else {
            continue;
        };
        let (number, sent) = event.split_once(' ').context("not an event of ours")?;
        ensure!(
            number.parse() == Ok(arrived),
            "event {number} instead of {arrived}"
        );
        let late = unix_ms().saturating_sub(sent.parse()?);
        ensure!(
            late < SOON_MS,
            "event {number} came {late} ms after it was sent"
        );
        (arrived, slowest) = (arrived + 1, slowest.max(late));
    }
    ensure!(arrived == count, "{arrived} events of {count}");
    let small = lab.content.file("1KB")?;
    let next = connection.ask(&Request::new("GET", "/a/1KB"));
    counts.check(next, &Expected::file(SERVERS[0], &small))?;
    Ok(format!(
        "{count} events, none later than {slowest} ms; the next request at another server"
    ))
}

fn long_poll(lab: &mut Lab, counts: &mut Counts, ms: u64) -> anyhow::Result<String> {
    let mut connection = Connection::to_vip(lab)?;
    for (pool, server) in [("a", SERVERS[0]), ("b", SERVERS[1])] {
        let ms = if pool == "a" { ms } else { 500 };
        let request = Request::new("GET", format!("/{pool}/late?ms={ms}"));
        let expected = Expected::status(200, server).bytes(b"late\n");
        let answer = counts.check(connection.ask(&request), &expected)?;
        ensure!(
            answer.seconds < ms as f64 / 1000.0 + 2.0,
            "an answer due after {ms} ms came after {:.1} s",
            answer.seconds
        );
    }
    Ok(format!(
        "answered after {} s, and again at another server",
        ms / 1000
    ))
}
