//! H5, H14, H15: packets that are not what they seem.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use super::log::{logged, settle};
use super::{Ground, PROXY};
use crate::client::{Connection, Dial, Expected, Request};
use crate::cluster::{Lab, POOLS, digest_of};
use crate::impair::frame::{ACK, FIN, RST, SYN, Segment, forged};
use crate::impair::{Fate, PacketSocket, Way};
use crate::origin::Received;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;
use crate::topology::INTERFACE;

const CLIENT: &str = "client";
/// A client that uses its port again is served within this time: it may have to send a segment again, not to wait for the old connection.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Bytes of an answer that stands still while its client does not read: more than sockets hold.
const STANDING: u64 = 4_000_000;
/// Of the client, beyond those that it takes by itself.
const PORT: u16 = 900;

/// `ground` has the client's cable tapped.
pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    recorder.case("H5/hole-before-boundary", |counts| {
        holes(ground.lab()?, counts, if short { 6 } else { 30 })
    })?;
    recorder.case("H14/port-reused-while-old-lives", |counts| {
        ports_reused(ground.lab()?, counts)
    })?;
    recorder.case("H15/spoofed-rst-fin", |counts| {
        let lab = ground.lab()?;
        let usual = lab.configuration(PROXY)?;
        let hasty = format!("{usual}\n[proxy]\nclosing_timeout_s = 1\n");
        lab.run_with(PROXY, &hasty)?;
        let told = spoofed(lab, counts, if short { 0 } else { 12 });
        lab.run_with(PROXY, &usual)?;
        told
    })
}

/// The head of a POST is lost once or twice; its body, which looks like a request for a third server, comes before it.
fn holes(lab: &mut Lab, counts: &mut Counts, rounds: usize) -> anyhow::Result<String> {
    let body = b"GET /c/whoami?hole HTTP/1.1\r\nHost: hole.example\r\n\r\n".repeat(40);
    let received = Received {
        method: "POST".into(),
        bytes: body.len() as u64,
        sha256: digest_of(&body),
    };
    let echoed = Expected::status(200, SERVERS[1]).bytes(&serde_json::to_vec(&received)?);
    let small = lab.content.file("1KB")?;
    let lost = Arc::new(AtomicUsize::new(0));
    for round in 0..rounds {
        let mut connection = Connection::to_vip(lab)?;
        // The first request of a connection, or a later one.
        if round % 2 == 1 {
            let answer = connection.ask(&Request::new("GET", "/a/1KB"));
            counts.check(answer, &Expected::file(SERVERS[0], &small))?;
        }
        let (mut left, loses) = (1 + round / 2 % 2, Arc::clone(&lost));
        let _ruled = lab.tap(CLIENT)?.rule(move |way, frame| {
            let segment = Segment::of(frame)?;
            let is_head = way == Way::FromHost && segment.payload.starts_with(b"POST");
            if !is_head || left == 0 {
                return None;
            }
            left -= 1;
            loses.fetch_add(1, Ordering::Relaxed);
            Some(Fate::LOST)
        });
        let head = format!(
            "POST /b/echo HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
            lab.vip(),
            body.len()
        );
        connection.write(head.as_bytes())?;
        connection.write(&body)?;
        // Behind the body, and behind the hole, a request that is one.
        connection.send(&Request::new("GET", "/a/1KB"))?;
        let round = format!("round {}", round + 1);
        let answer = connection.answer("POST");
        counts
            .check(answer, &echoed)
            .with_context(|| round.clone())?;
        let answer = connection.answer("GET");
        counts
            .check(answer, &Expected::file(SERVERS[0], &small))
            .context(round)?;
    }
    settle();
    let taken = logged(lab, SERVERS[2], "?hole ")?;
    ensure!(taken == 0, "{taken} bodies were taken for requests");
    let lost = lost.load(Ordering::Relaxed);
    ensure!(lost >= rounds, "{lost} heads lost: nothing is proved");
    Ok(format!(
        "{lost} heads lost; no body was taken for a request"
    ))
}

/// A client vanishes, its connection lives on at the server; then it comes back from the same port. Nothing that its machine says about the
/// old connection gets through.
fn ports_reused(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let (middle, small) = (lab.content.file("1MB")?, lab.content.file("1KB")?);
    lab.own_file(SERVERS[0], STANDING)?;
    let silenced = Arc::new(AtomicUsize::new(0));
    let silences = Arc::clone(&silenced);
    let _ruled = lab.tap(CLIENT)?.rule(move |way, frame| {
        let segment = Segment::of(frame)?;
        if way != Way::FromHost || segment.flags & RST == 0 {
            return None;
        }
        silences.fetch_add(1, Ordering::Relaxed);
        Some(Fate::LOST)
    });
    let mut slowest = Duration::ZERO;
    let mut port = PORT;
    let mut vanished = 0;
    for old in ["idle", "downloading", "unanswered"] {
        for (pool, server) in POOLS.iter().zip(SERVERS).take(2) {
            port += 1;
            let dial = Dial {
                port: Some(port),
                ..Dial::default()
            };
            let mut first = dial.vip(lab)?;
            match old {
                "idle" => {
                    let answer = first.ask(&Request::new("GET", "/a/1KB"));
                    counts.check(answer, &Expected::file(SERVERS[0], &small))?;
                }
                "downloading" => {
                    first.send(&standing(0))?;
                    wait_for_bytes(&first)?;
                }
                _ => first
                    .write(b"POST /a/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1")?,
            }
            vanish(first)?;
            vanished += 1;
            let start = Instant::now();
            let mut second = dial.vip(lab)?;
            let what = || format!("after a connection that was {old}, to pool {pool}");
            for (path, file) in [("1KB", &small), ("1MB", &middle)] {
                let answer = second.ask(&Request::new("GET", format!("/{pool}/{path}")));
                counts
                    .check(answer, &Expected::file(server, file))
                    .with_context(what)?;
                if path == "1KB" {
                    slowest = slowest.max(start.elapsed());
                }
            }
            ensure!(
                slowest < AT_ONCE,
                "{:.1} s until the first answer {}",
                slowest.as_secs_f64(),
                what()
            );
        }
    }
    let silenced = silenced.load(Ordering::Relaxed);
    ensure!(
        silenced >= vanished,
        "{silenced} resets held back for {vanished} connections: nothing is proved"
    );
    Ok(format!(
        "{vanished} ports used again, at most {:.3} s until the first answer",
        slowest.as_secs_f64()
    ))
}

fn standing(place: usize) -> Request {
    Request::new("GET", format!("/{}/own/{STANDING}", POOLS[place]))
}

fn wait_for_bytes(connection: &Connection) -> anyhow::Result<()> {
    let mut byte = [0];
    let peeked = connection.stream().peek(&mut byte)?;
    ensure!(peeked == 1, "the connection ended");
    Ok(())
}

/// Closes with a reset, which does not get through.
fn vanish(connection: Connection) -> anyhow::Result<()> {
    let at_once = linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(connection.stream(), sockopt::Linger, &at_once)?;
    drop(connection);
    Ok(())
}

/// A third host sends resets and FINs in the client's name, to the proxy and straight to the server, while a download stands still and while
/// the connection is idle. `pause_s`: for as long the proxy has time to forget what it takes for closed.
fn spoofed(lab: &mut Lab, counts: &mut Counts, pause_s: u64) -> anyhow::Result<String> {
    let mut expected = Vec::new();
    for server in &SERVERS[..2] {
        expected.push(Expected::file(server, &lab.own_file(server, STANDING)?));
    }
    let newest = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&newest);
    let mut connection = Connection::to_vip(lab)?;
    let port = connection.stream().local_addr()?.port();
    let _ruled = lab.tap(CLIENT)?.rule(move |way, frame| {
        let segment = Segment::of(frame)?;
        let is_ours = way == Way::FromHost && segment.source_port == port;
        if is_ours && segment.flags & (SYN | RST) == 0 {
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = frame.to_vec();
        }
        None
    });
    let spoofer = Spoofer::new(lab, SERVERS[2], &[PROXY, SERVERS[0]])?;
    let mut sent = 0;
    let mut spoof = || {
        let frame = newest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        sent += spoofer.send(&frame)?;
        anyhow::Ok(())
    };
    connection.send(&standing(0))?;
    wait_for_bytes(&connection)?;
    spoof()?;
    counts.check(connection.answer("GET"), &expected[0])?;
    spoof()?;
    std::thread::sleep(Duration::from_secs(pause_s));
    for place in [0, 1, 0] {
        counts.check(connection.ask(&standing(place)), &expected[place])?;
        spoof()?;
    }
    Ok(format!("{sent} forged packets, four answers"))
}

/// On a third host.
struct Spoofer {
    socket: PacketSocket,
    own: [u8; 6],
    targets: Vec<[u8; 6]>,
}

impl Spoofer {
    fn new(lab: &Lab, host: &str, targets: &[&str]) -> anyhow::Result<Self> {
        let targets = targets.iter().map(|target| link_address(lab, target));
        Ok(Self {
            socket: lab.netns(host).inside(|| PacketSocket::open(INTERFACE))?,
            own: link_address(lab, host)?,
            targets: targets.collect::<anyhow::Result<_>>()?,
        })
    }

    /// Packets like the client's newest, but for what its sender would have to know exactly.
    fn send(&self, newest: &[u8]) -> anyhow::Result<usize> {
        let segment = Segment::of(newest).context("the client has sent nothing")?;
        let next = segment.seq.wrapping_add(segment.payload.len() as u32);
        let mut sent = 0;
        for (flags, seq, ack) in guesses() {
            let (seq, ack) = (next.wrapping_add(seq), segment.ack.wrapping_add(ack));
            let mut frame = forged(newest, seq, ack, flags).context("not a segment")?;
            frame[6..12].copy_from_slice(&self.own);
            for target in &self.targets {
                frame[..6].copy_from_slice(target);
                self.socket.send(&frame)?;
                sent += 1;
            }
        }
        Ok(sent)
    }
}

/// Flags, and how far the sequence and acknowledgement numbers are off. None is what the client itself may send: a reset in the window
/// needs the exact number (RFC 5961 3.2), a FIN in the window an acknowledgement number that is near (5.2).
fn guesses() -> Vec<(u8, u32, u32)> {
    let far = [1_u32 << 30, 1 << 31, 3 << 30];
    let outside = [10_000_000_u32, 1 << 31, 10_000_000_u32.wrapping_neg()];
    let inside = [1, 2, 1000, 30_000];
    let mut guesses = Vec::new();
    for seq in inside.iter().chain(&outside) {
        guesses.extend([(RST, *seq, 0), (RST | ACK, *seq, 0)]);
        guesses.extend(far.map(|ack| (FIN | ACK, *seq, ack)));
    }
    guesses.extend(outside.map(|seq| (FIN | ACK, seq, 0)));
    guesses
}

fn link_address(lab: &Lab, host: &str) -> anyhow::Result<[u8; 6]> {
    let said = lab.netns(host).ip(&format!("-o link show {INTERFACE}"))?;
    let text = said
        .split_once("link/ether ")
        .and_then(|(_, rest)| rest.split(' ').next())
        .with_context(|| format!("no link-layer address in: {said}"))?;
    let bytes: Result<Vec<u8>, _> = text
        .split(':')
        .map(|pair| u8::from_str_radix(pair, 16))
        .collect();
    let bytes = bytes?;
    bytes
        .try_into()
        .map_err(|_| anyhow::anyhow!("{text} is no link-layer address"))
}
