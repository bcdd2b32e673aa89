//! Hard case 12 and section 2: request heads that come in pieces are acknowledged, and handed off all the same.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{CLUSTER_PORT, Ground, PROXY};
use crate::client::{Connection, Dial, Expected};
use crate::cluster::{Lab, POOLS};
use crate::impair::frame::datagram;
use crate::impair::{Fate, Way};
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

/// From the last write to the answer, at best: the machine may be busy with other things.
const ANSWERED: Duration = Duration::from_millis(50);

/// Kind of the message, and length of its header (docs/wire.md).
const BIND: u8 = 1;
const BIND_HEADER: usize = 48;

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
    Ok(())
}

/// `ground` has the proxy's cable tapped.
pub(super) fn lost_cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    let (connections, requests) = if short { (2, 6) } else { (10, 12) };
    recorder.case("H12/lost-binds", |counts| {
        handed_off(ground.lab()?, |lab| {
            lost(lab, counts, connections, requests)
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

/// Of which the client's TCP holds two back.
const THREE_WRITES: Head = Head {
    dial: Dial {
        waits: true,
        mss: None,
        receive_buffer: None,
        port: None,
        keepalive: None,
    },
    bytes: 100,
    parts: 3,
    pause: Duration::ZERO,
};

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
    let before = decided(lab, "acknowledged")?;
    let mut best = [Duration::MAX; 2];
    let told = handed_off(lab, |lab| {
        for number in 0..connections {
            let mut connection = THREE_WRITES.dial.vip(lab)?;
            for request in 0..requests {
                let took = ask(
                    lab,
                    counts,
                    &mut connection,
                    &THREE_WRITES,
                    number + request,
                )?;
                let kind = &mut best[usize::from(request > 0)];
                *kind = took.min(*kind);
            }
        }
        Ok(format!("{connections} connections"))
    })?;
    let acknowledged = decided(lab, "acknowledged")? - before;
    let heads = (connections * requests) as u64;
    // The acknowledgement, the rest, the answer.
    let most = ANSWERED + 4 * lab.options.faults.delay;
    ensure!(
        4 * acknowledged >= 3 * heads, // on a path that loses, a piece sent again may bring the rest along
        "{acknowledged} pieces of {heads} heads were acknowledged: the client did not wait, and this shows nothing"
    );
    ensure!(
        best.iter().all(|best| *best < most),
        "at best a first request was answered after {:?}, a later one after {:?}",
        best[0],
        best[1]
    );
    Ok(format!("{told}, at best {best:?} after the last write"))
}

/// Each first copy of a bind is lost: the client, to whom it was acknowledged, does not send it again, so the proxy must.
fn lost(
    lab: &mut Lab,
    counts: &mut Counts,
    connections: usize,
    requests: usize,
) -> anyhow::Result<String> {
    let mut seen = HashSet::new();
    let ruled = lab.tap(PROXY)?.rule(move |way, frame| {
        let message = datagram(frame, CLUSTER_PORT)?;
        if way != Way::FromHost || message.get(3) != Some(&BIND) {
            return None;
        }
        // The port of the client, the bind's epoch, its requests (docs/wire.md).
        let packet = message.get(BIND_HEADER..)?;
        let client = packet.get(20..22)?;
        let state = [client, message.get(16..20)?, message.get(32..36)?].concat();
        seen.insert(state).then_some(Fate::LOST)
    });
    let before = decided(lab, "repeated")?;
    for number in 0..connections {
        let mut connection = THREE_WRITES.dial.vip(lab)?;
        for request in 0..requests {
            // Two in turn for the same server: the second is no bind, but a header for a flow that is held.
            let place = (number + request) / 2;
            ask(lab, counts, &mut connection, &THREE_WRITES, place)
                .with_context(|| format!("connection {}, request {}", number + 1, request + 1))?;
        }
    }
    drop(ruled);
    let (repeated, heads) = (
        decided(lab, "repeated")? - before,
        (connections * requests) as u64,
    );
    ensure!(
        repeated >= heads,
        "of {heads} heads {repeated} were sent again by the proxy: something else has repaired the rest"
    );
    Ok(format!("{heads} heads, {repeated} sent again by the proxy"))
}
