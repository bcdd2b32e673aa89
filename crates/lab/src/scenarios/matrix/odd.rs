//! Clients whose TCP or IP is unusual: silent and closed unused (H13), IP options and extension headers, urgent data, ECN, VLAN tags
//! (section 3). What they send is in `odd_client.py`'s hands.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::{Ground, PROXY, complete};
use crate::client::{Answer, Expected, Outcome};
use crate::cluster::{Lab, POOLS, requirements, wait_until};
use crate::command;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;
use crate::topology::INTERFACE;

const CLIENT: &str = include_str!("odd_client.py");
const TAGGED: &str = include_str!("tagged.py");

/// `setsockopt`: level, name, value (a number, or bytes in hexadecimal); the numbers are Linux's.
type SocketOption = (u8, u8, Value);

/// For what is the same with a relay.
pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    let silence = if short { 8 } else { 600 };
    recorder.case("H13/keepalive-then-request", |counts| {
        silent(ground.lab()?, counts, silence)
    })?;
    recorder.case("H13/closed-unused", |_| closed_unused(ground.lab()?))?;
    recorder.case("3/ecn", |counts| ecn(ground.lab()?, counts))
}

/// For what is about handing off.
pub(super) fn handoff_cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
) -> anyhow::Result<()> {
    if !ground.is_ipv6() {
        recorder.case("3/ipv4-options", |counts| {
            let router_alert_and_padding = (0, 4, json!("9404000001010101"));
            with_options(ground.lab()?, counts, vec![router_alert_and_padding])
        })?;
        recorder.case("3/vlan", |counts| vlan(ground.other(|_| ()).lab()?, counts))?;
    }
    recorder.case("3/ipv6-extension-headers", |counts| {
        let padding = json!("0000010400000000");
        let (hop_by_hop, destination) = ((41, 54, padding.clone()), (41, 59, padding));
        let mut ground = ground.other(|options| options.ipv6 = true);
        with_options(ground.lab()?, counts, vec![hop_by_hop, destination])
    })?;
    recorder.case("3/urgent", |counts| urgent(ground.lab()?, counts))
}

/// Keepalive probes every second, none of which may go unanswered for long; then a request.
fn silent(lab: &mut Lab, counts: &mut Counts, seconds: u64) -> anyhow::Result<String> {
    let file = lab.content.file("1KB")?;
    let answered = "baton_packets_total{role=\"proxy\",verdict=\"answered\",reason=\"keepalive\"}";
    let punts = "baton_punts_total";
    let before = (lab.counter(PROXY, answered)?, lab.counter(PROXY, punts)?);
    let options = vec![
        (1, 9, json!(1)),
        (6, 4, json!(1)),
        (6, 5, json!(1)),
        (6, 6, json!(3)),
    ];
    let steps = json!([
        ["sleep", seconds],
        ["send", get("/a/1KB")],
        ["receive", null]
    ]);
    let outcome = run(lab, options, &steps)?;
    let [answer] = &exactly::<1>(counts, outcome)?;
    counts.check(Ok(answer.clone()), &Expected::file(SERVERS[0], &file))?;
    if is_relay(lab) {
        return Ok(format!("{seconds} s of silence, then a request"));
    }
    let probes = lab.counter(PROXY, answered)? - before.0;
    ensure!(
        probes >= 3,
        "only {probes} probes were answered by the proxy's kernel"
    );
    let punted = lab.counter(PROXY, punts)? - before.1;
    ensure!(
        punted == 1,
        "{punted} packets went to user space instead of the request alone"
    );
    Ok(format!(
        "{probes} probes in {seconds} s of silence, then a request"
    ))
}

/// Nothing of it is left in the client but TIME_WAIT, and nothing at the proxy.
fn closed_unused(lab: &mut Lab) -> anyhow::Result<String> {
    let fins = "baton_packets_total{role=\"proxy\",verdict=\"answered\",reason=\"fin\"}";
    let punts = "baton_punts_total";
    let before = (lab.counter(PROXY, fins)?, lab.counter(PROXY, punts)?);
    let vip = lab.vip();
    let connect = || Ok(TcpStream::connect(vip)?);
    let streams = (0..20)
        .map(|_| lab.netns("client").inside(connect))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let ports = streams
        .iter()
        .map(|stream| Ok(stream.local_addr()?.port()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    drop(streams);
    wait_until("both ends have closed", Duration::from_secs(5), || {
        let open = open_ports(lab, vip)?;
        Ok(!ports.iter().any(|port| open.contains(port)))
    })?;
    if is_relay(lab) {
        return Ok(format!("{} connections closed", ports.len()));
    }
    let fins = lab.counter(PROXY, fins)? - before.0;
    ensure!(fins >= ports.len() as u64, "{fins} FINs were answered");
    ensure!(
        lab.counter(PROXY, punts)? == before.1,
        "something of them went to user space"
    );
    Ok(format!("{} connections closed by both ends", ports.len()))
}

/// Local ports of the client's connections to `to` that are neither closed nor in TIME_WAIT.
fn open_ports(lab: &Lab, to: SocketAddr) -> anyhow::Result<Vec<u16>> {
    const TIME_WAIT: &str = "06";
    let table = if to.is_ipv6() {
        "/proc/net/tcp6"
    } else {
        "/proc/net/tcp"
    };
    let text = command::run(lab.netns("client").command("cat").arg(table))?;
    let remote = format!(":{:04X}", to.port());
    let port = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, peer, state) = (fields.next()?, fields.next()?, fields.next()?);
        if !peer.ends_with(&remote) || state == TIME_WAIT {
            return None;
        }
        u16::from_str_radix(local.rsplit(':').next()?, 16).ok()
    };
    Ok(text.lines().filter_map(port).collect())
}

/// A client that asks for ECN gets a connection without.
fn ecn(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let client = lab.netns("client");
    client.sysctl("net.ipv4.tcp_ecn", "1")?;
    let told = with_options(lab, counts, Vec::new());
    client.sysctl("net.ipv4.tcp_ecn", "2")?;
    told
}

/// Three pools on one connection, and an upload.
fn with_options(
    lab: &mut Lab,
    counts: &mut Counts,
    options: Vec<SocketOption>,
) -> anyhow::Result<String> {
    let file = lab.content.file("1MB")?;
    let mut steps = Vec::new();
    for pool in POOLS {
        steps.push(json!(["send", get(&format!("/{pool}/1MB"))]));
        steps.push(json!(["receive", null]));
    }
    let body = "x".repeat(100_000);
    steps.push(json!(["send", post("/a/echo", &body)]));
    steps.push(json!(["receive", null]));
    let outcome = run(lab, options, &Value::Array(steps))?;
    let answers = exactly::<4>(counts, outcome)?;
    for (answer, server) in answers.iter().zip(SERVERS) {
        counts.check(Ok(answer.clone()), &Expected::file(server, &file))?;
    }
    let [.., upload] = answers;
    counts.check(Ok(upload), &Expected::status(200, SERVERS[0]))?;
    Ok("three pools and an upload on one connection".to_owned())
}

/// Urgent bytes are bytes of the body: a server that took one out would wait for it, or take one of the next request.
fn urgent(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let file = lab.content.file("1KB")?;
    let body = "0123456789".repeat(100);
    let text = post("/a/echo", &body);
    let (head, body) = text.split_at(text.len() - body.len());
    let steps = json!([
        ["send", head],
        ["send", body[..300]],
        ["urgent", body[300..301]],
        ["send", body[301..700]],
        ["urgent", body[700..701]],
        ["send", body[701..]],
        ["receive", null],
        ["send", get("/b/1KB")],
        ["receive", null],
    ]);
    let outcome = run(lab, Vec::new(), &steps)?;
    let [upload, next] = exactly::<2>(counts, outcome)?;
    counts.check(Ok(upload), &Expected::status(200, SERVERS[0]))?;
    counts.check(Ok(next), &Expected::file(SERVERS[1], &file))?;
    Ok("two urgent bytes in a body, then a request for another pool".to_owned())
}

/// A frame with a VLAN's number is not for the interface that carries the VLAN; one with a priority alone is.
fn vlan(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    with_options(lab, counts, Vec::new())?; // from here on the client knows the VIP's link-layer address
    let (vip, client) = (lab.vip().ip(), lab.netns("client"));
    let neighbour = client.ip(&format!("neighbour show {vip} dev {INTERFACE}"))?;
    let words: Vec<&str> = neighbour.split_whitespace().collect();
    let link = words.iter().skip_while(|word| **word != "lladdr").nth(1);
    let link = link.with_context(|| format!("no address of {vip}: {neighbour}"))?;
    let own = lab.topology.client().v4().to_string();
    let tagged = |tag: u16| {
        let mut python = client.command(requirements::PYTHON);
        python.args(["-c", TAGGED, &own, &vip.to_string(), link, &tag.to_string()]);
        command::run(&mut python)
    };
    const PRIORITY: u16 = 5 << 13;
    for (tag, expected) in [
        (PRIORITY, "answered"),
        (5, "silence"),
        (PRIORITY | 5, "silence"),
    ] {
        let came = tagged(tag)?;
        ensure!(came.trim() == expected, "tag {tag:#06x}: {came}");
    }
    Ok("a priority tag is taken off, a VLAN's frame is left to the VLAN's interface".to_owned())
}

fn is_relay(lab: &Lab) -> bool {
    lab.options.mechanism == crate::cluster::Mechanism::Relay
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: lab\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn run(lab: &Lab, options: Vec<SocketOption>, steps: &Value) -> anyhow::Result<Outcome> {
    requirements::require(requirements::PYTHON, "python3")?;
    let vip = lab.vip();
    let plan = json!({"address": vip.ip().to_string(), "port": vip.port(), "options": options, "steps": steps});
    let mut python = lab.netns("client").command(requirements::PYTHON);
    python.args(["-c", CLIENT, &plan.to_string()]);
    Ok(serde_json::from_str(&command::run(&mut python)?)?)
}

/// All answers; those that are missing have failed.
fn exactly<const N: usize>(counts: &mut Counts, outcome: Outcome) -> anyhow::Result<[Answer; N]> {
    let missing = N.saturating_sub(outcome.answers.len()) as u64;
    counts.transfers += missing;
    counts.failed += missing;
    match complete(outcome)?.try_into() {
        Ok(answers) => Ok(answers),
        Err(answers) => bail!("{} answers instead of {N}", answers.len()),
    }
}
