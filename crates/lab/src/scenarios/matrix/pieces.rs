//! Hard case 12 and section 2: request heads that come in pieces are acknowledged, and handed off all the same.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{Ground, PROXY};
use crate::client::{Connection, Dial, Expected};
use crate::cluster::{Lab, POOLS};
use crate::impair::Faults;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

/// From the last write to the answer, at best: the machine may be busy with other things.
const ANSWERED: Duration = Duration::from_millis(50);

/// Of a client whose segments are short: the smallest MSS that all must take (RFC 9293, section 3.7.1).
const SMALL_MSS: u32 = 536;

pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    let (connections, requests) = if short { (4, 6) } else { (20, 12) };
    recorder.case("H12/nagle-three-writes", |counts| {
        nagle(ground.lab()?, counts, connections, requests)
    })?;
    let eight = |dial, bytes| Head {
        dial,
        bytes,
        parts: 8,
        pause: Duration::ZERO,
    };
    let small = Dial {
        mss: Some(SMALL_MSS),
        ..Dial::default()
    };
    for (name, head) in [
        ("H12/eight-segments", eight(Dial::default(), 8 * 1200)),
        ("H12/eight-segments-mss-536", eight(small, 8 * 500)),
        // More than a fresh congestion window.
        (
            "H12/head-of-16KB-mss-536",
            Head {
                parts: 1,
                ..eight(small, 16_000)
            },
        ),
        (
            "2/slow-head",
            Head {
                dial: Dial::default(),
                bytes: 0,
                parts: usize::MAX,
                pause: Duration::from_millis(20),
            },
        ),
    ] {
        recorder.case(name, |counts| {
            handed_off(ground.lab()?, |lab| {
                let mut connection = head.dial.vip(lab)?;
                for request in 0..requests.min(4) {
                    ask(lab, counts, &mut connection, &head, request)?;
                }
                Ok(format!("{} requests", requests.min(4)))
            })
        })?;
    }
    let faults = Faults {
        loss: 0.05,
        reorder: 0.03,
        ..Faults::default()
    };
    let mut ground = ground.other(|options| options.faults = faults);
    recorder.case("H12/lost-binds", |counts| {
        handed_off(ground.lab()?, |lab| {
            lost(lab, counts, 5 * connections, requests)
        })
    })
}

/// How a head is sent.
#[derive(Clone, Copy)]
struct Head {
    dial: Dial,
    /// Of padding.
    bytes: usize,
    parts: usize,
    /// Between two parts.
    pause: Duration,
}

/// A request for the pool of this number; how long after its last part its answer was there.
fn ask(
    lab: &mut Lab,
    counts: &mut Counts,
    connection: &mut Connection,
    head: &Head,
    number: usize,
) -> anyhow::Result<Duration> {
    let file = lab.content.file("1KB")?;
    let place = number % POOLS.len();
    let mut text = format!(
        "GET /{}/1KB HTTP/1.1\r\nHost: pieces.example\r\n",
        POOLS[place]
    );
    for line in vec![b'x'; head.bytes].chunks(1000) {
        text += &format!("X-Padding: {}\r\n", String::from_utf8_lossy(line));
    }
    text += "\r\n";
    for part in text.as_bytes().chunks(text.len().div_ceil(head.parts)) {
        connection.write(part)?;
        thread::sleep(head.pause);
    }
    let asked = Instant::now();
    let answer = connection.answer("GET");
    counts
        .check(answer, &Expected::file(SERVERS[place], &file))
        .with_context(|| format!("request {}", number + 1))?;
    Ok(asked.elapsed())
}

/// Nothing goes to the proxy's relay.
fn handed_off(
    lab: &mut Lab,
    case: impl FnOnce(&mut Lab) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let before = decided(lab, "to_relay")?;
    let told = case(lab)?;
    let relayed = decided(lab, "to_relay")? - before;
    ensure!(
        relayed == 0,
        "{relayed} connections went to the proxy's relay"
    );
    Ok(told)
}

fn decided(lab: &Lab, event: &str) -> anyhow::Result<u64> {
    lab.counter(
        PROXY,
        &format!("baton_decisions_total{{event=\"{event}\"}}"),
    )
}

/// Three small writes, of which the client's TCP holds two back.
fn nagle(
    lab: &mut Lab,
    counts: &mut Counts,
    connections: usize,
    requests: usize,
) -> anyhow::Result<String> {
    let head = Head {
        dial: Dial {
            waits: true,
            ..Dial::default()
        },
        bytes: 100,
        parts: 3,
        pause: Duration::ZERO,
    };
    let before = decided(lab, "acknowledged")?;
    let mut best = [Duration::MAX; 2];
    let told = handed_off(lab, |lab| {
        for number in 0..connections {
            let mut connection = head.dial.vip(lab)?;
            for request in 0..requests {
                let took = ask(lab, counts, &mut connection, &head, number + request)?;
                let kind = &mut best[usize::from(request > 0)];
                *kind = took.min(*kind);
            }
        }
        Ok(format!("{connections} connections"))
    })?;
    let acknowledged = decided(lab, "acknowledged")? - before;
    let heads = (connections * requests) as u64;
    ensure!(
        acknowledged >= heads,
        "{acknowledged} pieces of {heads} heads were acknowledged: the client did not wait, and this shows nothing"
    );
    ensure!(
        best.iter().all(|best| *best < ANSWERED),
        "at best a first request was answered after {:?}, a later one after {:?}",
        best[0],
        best[1]
    );
    Ok(format!("{told}, at best {best:?} after the last write"))
}

/// Heads in pieces on a path that loses: what was acknowledged comes again by itself.
fn lost(
    lab: &mut Lab,
    counts: &mut Counts,
    connections: usize,
    requests: usize,
) -> anyhow::Result<String> {
    let head = Head {
        dial: Dial {
            waits: true,
            ..Dial::default()
        },
        bytes: 100,
        parts: 3,
        pause: Duration::ZERO,
    };
    let before = decided(lab, "repeated")?;
    for number in 0..connections {
        let mut connection = head.dial.vip(lab)?;
        for request in 0..requests {
            ask(lab, counts, &mut connection, &head, number + request)
                .with_context(|| format!("connection {}", number + 1))?;
        }
    }
    let repeated = decided(lab, "repeated")? - before;
    Ok(format!(
        "{} heads, {repeated} sent again by the proxy",
        connections * requests
    ))
}
