//! Section 3: clients whose TCP is not like most.

use std::thread;
use std::time::Duration;

use anyhow::{bail, ensure};

use super::downloads::get;
use super::rotation::rotate;
use super::uploads::{NO_EXPECT, put};
use super::{Ground, PROXY};
use crate::client::{Answer, Connection, Dial, Expected, Request, url, wrk};
use crate::cluster::{Lab, Mechanism, POOLS};
use crate::command;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;
use crate::scenarios::site::ClientTcp;
use crate::topology::INTERFACE;

const CLIENT: &str = "client";
/// Settings of the servers' hosts that must stay as they are.
const HOST_SETTINGS: [&str; 3] = [
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_fin_timeout",
];

pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    let requests = if short { 12 } else { 120 };
    for tcp in ClientTcp::all() {
        let name = format!("3/options-TS-WS-SACK/{}", tcp.name);
        recorder.case(&name, |counts| {
            mixed(ground.lab_for(tcp)?, counts, requests, &name)
        })?;
    }
    recorder.case("3/mss-536", |counts| {
        let lab = ground.lab()?;
        if lab.options.ipv6 {
            return Ok("IPv6 has no path that narrow".into());
        }
        small_segments(lab, counts, requests)
    })?;
    recorder.case("3/small-window", |counts| {
        small_window(ground.lab()?, counts)
    })?;
    recorder.case("3/zero-window", |counts| {
        zero_window(ground.lab()?, counts, if short { 2 } else { 20 })
    })?;
    recorder.case("3/keepalive", |counts| {
        keepalive(ground.lab()?, counts, if short { 4 } else { 60 })
    })?;
    recorder.case("3/close-one-address", |counts| {
        close_one_address(ground.lab()?, counts, if short { 3 } else { 60 })
    })
}

/// Down, up, and over all pools.
fn mixed(
    lab: &mut Lab,
    counts: &mut Counts,
    requests: usize,
    name: &str,
) -> anyhow::Result<String> {
    get(lab, counts, 0, "1MB")?;
    put(lab, counts, lab.vip(), 1, "1MB", &[NO_EXPECT])?;
    rotate(lab, counts, requests, name)
}

/// Both ends send segments of at most 536 bytes: the path's MTU is 576.
fn small_segments(lab: &mut Lab, counts: &mut Counts, requests: usize) -> anyhow::Result<String> {
    let (client, vip) = (lab.netns(CLIENT), lab.vip().ip());
    client.ip(&format!("route replace {vip} dev {INTERFACE} mtu lock 576"))?;
    let told = mixed(lab, counts, requests, "3/mss-536");
    client.ip(&format!("route delete {vip} dev {INTERFACE}"))?;
    told
}

fn narrow(lab: &Lab) -> anyhow::Result<Connection> {
    let dial = Dial {
        receive_buffer: Some(2_304),
        ..Dial::default()
    };
    dial.vip(lab)
}

/// A window of about one segment, never more.
fn small_window(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let mut connection = narrow(lab)?;
    let mut seconds = Vec::new();
    for place in [0, 1, 1, 2, 0] {
        let file = lab.own_file(SERVERS[place], 200_000)?;
        let path = format!("/{}/own/200000", POOLS[place]);
        let answer = connection.ask(&Request::new("GET", path));
        let answer = counts.check(answer, &Expected::file(SERVERS[place], &file))?;
        seconds.push(format!("{:.2}", answer.seconds));
    }
    Ok(format!("200 kB five times in {} s", seconds.join(", ")))
}

/// The client reads nothing for a while, again and again: the window closes, is probed, and opens.
fn zero_window(lab: &mut Lab, counts: &mut Counts, pause_s: u64) -> anyhow::Result<String> {
    let mut connection = narrow(lab)?;
    for place in [0, 1] {
        let file = lab.own_file(SERVERS[place], 100_000)?;
        connection.send(&Request::new(
            "GET",
            format!("/{}/own/100000", POOLS[place]),
        ))?;
        thread::sleep(Duration::from_secs(pause_s));
        let sender = match lab.options.mechanism {
            Mechanism::Handoff => SERVERS[place],
            Mechanism::Relay => PROXY,
        };
        let sockets = sockets(lab, sender, "-Htnoi")?;
        ensure!(
            sockets.contains("persist"),
            "{sender} does not probe: {sockets}"
        );
        counts.check(
            connection.answer("GET"),
            &Expected::file(SERVERS[place], &file),
        )?;
    }
    Ok(format!("no window for {pause_s} s, twice"))
}

/// Sockets of a host with the VIP's port.
fn sockets(lab: &Lab, host: &str, what: &str) -> anyhow::Result<String> {
    let mut ss = lab.netns(host).command("ss");
    command::run(ss.args([what, "src", &format!("{}", lab.vip())]))
}

/// Idle connections whose client's TCP asks whether they are alive: such that have a server, and such that moved.
fn keepalive(lab: &mut Lab, counts: &mut Counts, idle_s: u64) -> anyhow::Result<String> {
    let file = lab.content.file("1KB")?;
    let dial = Dial {
        keepalive: Some(Duration::from_secs(1)),
        ..Dial::default()
    };
    let mut connections = vec![dial.vip(lab)?, dial.vip(lab)?];
    let mut ask = |connection: &mut Connection, place: usize| -> anyhow::Result<Answer> {
        let answer = connection.ask(&Request::new("GET", format!("/{}/1KB", POOLS[place])));
        counts.check(answer, &Expected::file(SERVERS[place], &file))
    };
    ask(&mut connections[0], 0)?;
    ask(&mut connections[1], 0)?;
    ask(&mut connections[1], 1)?;
    thread::sleep(Duration::from_secs(idle_s));
    for connection in &mut connections {
        ask(connection, 1)?;
        ask(connection, 2)?;
    }
    Ok(format!("{idle_s} s idle, probed each second"))
}

/// One request a connection, at full speed, from so few ports that each is used again while its last connection waits out its time at the
/// server. What else the servers' hosts do is not touched.
fn close_one_address(lab: &mut Lab, counts: &mut Counts, seconds: u64) -> anyhow::Result<String> {
    const PORTS: &str = "net.ipv4.ip_local_port_range";
    let file = lab.content.file("1KB")?;
    let host = lab.netns(SERVERS[0]);
    let settings = || -> anyhow::Result<Vec<String>> {
        HOST_SETTINGS.iter().map(|key| host.setting(key)).collect()
    };
    let before = settings()?;
    // Another service of the host: its server's connections wait out their time, and one is open.
    let direct = lab.direct(SERVERS[0])?;
    let mut open = Dial::default().from(lab, direct)?;
    let mut ask_direct = |connection: &mut Connection, request: &Request| {
        counts.check(connection.ask(request), &Expected::file(SERVERS[0], &file))
    };
    ask_direct(&mut open, &Request::new("GET", "/1KB"))?;
    for _ in 0..OTHERS {
        let mut connection = Dial::default().from(lab, direct)?;
        let request = Request::new("GET", "/1KB").header("Connection", "close");
        ask_direct(&mut connection, &request)?;
    }
    let waiting = || -> anyhow::Result<usize> {
        let mut ss = host.command("ss");
        let text =
            command::run(ss.args(["-Htn", "state", "time-wait", "src", &direct.to_string()]))?;
        Ok(text.lines().count())
    };
    ensure!(
        waiting()? >= OTHERS,
        "connections of the other service do not wait: nothing is proved"
    );
    let client = lab.netns(CLIENT);
    let usual = client.setting(PORTS)?;
    client.sysctl(PORTS, "20000 20999")?;
    let to = url(lab.vip(), "/a/1KB");
    let load = wrk(
        lab,
        &to,
        &["Connection: close"],
        Duration::from_secs(seconds),
    );
    client.sysctl(PORTS, &usual)?;
    let load = load?;
    // The other service's connections wait for 60 s.
    let left = waiting()?;
    ensure!(
        seconds > 50 || left >= OTHERS,
        "only {left} of {OTHERS} connections of the other service still wait"
    );
    ask_direct(&mut open, &Request::new("GET", "/1KB"))?;
    ensure!(settings()? == before, "settings of the host have changed");
    counts.transfers += load.requests;
    counts.failed += load.failed;
    if load.failed > 0 {
        bail!("{} of {} requests failed", load.failed, load.requests);
    }
    ensure!(
        load.requests > 1000,
        "{} requests on 1000 ports: nothing is proved",
        load.requests
    );
    Ok(format!(
        "{} requests from 1000 ports, {:.0}/s, none failed; the other service's connections are there",
        load.requests, load.requests_per_second
    ))
}

/// Closed connections of another service.
const OTHERS: usize = 20;
