//! Section 5: other web servers than the lab's usual one, and other ways to listen.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};

use super::Ground;
use super::rotation::rotate;
use crate::client::{Answer, Connection, Expected, NO_SERVER, Request, curl, url};
use crate::cluster::{Lab, POOLS, Program, Reload, wait_until};
use crate::command;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;
use crate::topology::HTTP_PORT;

const PATIENCE: Duration = Duration::from_secs(10);
/// Clients of a server with a queue of five.
const CROWD: usize = 30;

pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    relay: bool,
    short: bool,
) -> anyhow::Result<()> {
    recorder.case("5/nginx", |counts| {
        let requests = if short { 60 } else { 600 };
        rotate(ground.lab()?, counts, requests, "5/nginx")
    })?;
    for (name, program, ask) in [
        ("apache", Program::Apache, apache as Ask),
        (
            "python-http-server",
            Program::PythonHttpServer,
            python_http_server,
        ),
        ("reuseport", Program::NginxReuseport, reuseport),
        (
            "accept-queue-full",
            Program::PythonInTurn,
            accept_queue_full,
        ),
        (
            "other-port-loopback",
            Program::NginxOnLoopback,
            other_port_loopback,
        ),
    ] {
        if program == Program::NginxOnLoopback && relay {
            continue;
        }
        recorder.case(&format!("5/{name}"), |counts| {
            let lab = ground.lab()?;
            let told = serve_by(lab, program).and_then(|()| ask(lab, counts));
            lab.stop_everywhere(program)?;
            told
        })?;
    }
    Ok(())
}

type Ask = fn(&mut Lab, &mut Counts) -> anyhow::Result<String>;

/// From now on the pools' servers are these, at another port of the same back ends.
fn serve_by(lab: &mut Lab, program: Program) -> anyhow::Result<()> {
    lab.start_everywhere(program)?;
    let (usual, port) = (format!(":{HTTP_PORT}\""), format!(":{}\"", program.port()));
    for node in lab.nodes() {
        let text = lab.configuration(&node.name)?.replace(&usual, &port);
        lab.write_configuration(&node.name, &text)?;
        let reload = lab.reload(&node.name)?;
        ensure!(
            reload == Reload::Taken,
            "{} did not take the configuration",
            node.name
        );
    }
    for pool in POOLS {
        wait_until("the other servers answer", PATIENCE, || {
            let answer = curl(lab, &url(lab.vip(), &format!("/{pool}/whoami")), &[])?;
            Ok(is_from(program, &answer))
        })?;
    }
    Ok(())
}

fn is_from(program: Program, answer: &Answer) -> bool {
    let server = answer.header("Server").unwrap_or_default();
    match program {
        Program::Apache => server.starts_with("Apache"),
        Program::PythonHttpServer => server.starts_with("SimpleHTTP"),
        Program::PythonInTurn => server.starts_with("BaseHTTP"),
        Program::NginxReuseport | Program::NginxOnLoopback => answer.header("X-Worker").is_some(),
    }
}

/// Files, HEAD and 304 over three pools, one connection after the other and on one connection.
fn apache(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let large = lab.content.file("1MB")?;
    let mut connection = Connection::to_vip(lab)?;
    let mut version = String::new();
    for round in 0..30 {
        let (pool, server) = (POOLS[round % 3], SERVERS[round % 3]);
        let unique = Expected::file(server, &lab.unique(server)?);
        let fresh = curl(lab, &url(lab.vip(), &format!("/{pool}/unique")), &[]);
        counts.check(fresh, &unique)?;
        let mut ask = |counts: &mut Counts, request: Request, expected: &Expected| {
            let answer = counts.check(connection.ask(&request), expected)?;
            anyhow::Ok(answer)
        };
        let path = |name: &str| format!("/{pool}/{name}");
        ask(counts, Request::new("GET", path("unique")), &unique)?;
        let large = Expected::file(server, &large);
        let answer = ask(counts, Request::new("GET", path("1MB")), &large)?;
        let empty = |status| Expected::status(status, server).bytes(&[]);
        ask(counts, Request::new("HEAD", path("1MB")), &empty(200))?;
        let tag = answer.header("ETag").unwrap_or_default();
        let again = Request::new("GET", path("1MB")).header("If-None-Match", tag);
        ask(counts, again, &empty(304))?;
        version = answer.header("Server").unwrap_or_default().to_owned();
    }
    Ok(format!(
        "{version}: 120 requests on one connection, 30 on others"
    ))
}

/// Every answer ends its connection, and has HTTP/1.0; clients that come at once are more than its queue of five.
fn python_http_server(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let large = lab.content.file("1MB")?;
    for round in 0..9 {
        let (pool, server) = (POOLS[round % 3], SERVERS[round % 3]);
        // It sends no header that tells who it is: the bytes do.
        for (name, file) in [("unique", lab.unique(server)?), ("1MB", large.clone())] {
            let answer = curl(lab, &url(lab.vip(), &format!("/{pool}/{name}")), &[]);
            let answer = counts.check(answer, &Expected::file(NO_SERVER, &file))?;
            ensure!(
                is_from(Program::PythonHttpServer, &answer),
                "another server"
            );
        }
    }
    let answers = crowd(lab, 24, POOLS.len(), "unique");
    for (number, answer) in answers.into_iter().enumerate() {
        let unique = lab.unique(SERVERS[number % 3])?;
        counts.check(answer, &Expected::file(NO_SERVER, &unique))?;
    }
    Ok("18 requests one after the other, 24 at once".into())
}

/// Each worker has a listener of its own, and gets work by it.
fn reuseport(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let small = lab.content.file("1KB")?;
    let mut workers: BTreeMap<(String, String), usize> = BTreeMap::new();
    for round in 0..180 {
        let (pool, server) = (POOLS[round % 3], SERVERS[round % 3]);
        let mut connection = Connection::to_vip(lab)?;
        let answer = connection.ask(&Request::new("GET", format!("/{pool}/1KB")));
        let answer = counts.check(answer, &Expected::file(server, &small))?;
        let worker = answer.header("X-Worker").unwrap_or_default().to_owned();
        *workers.entry((server.to_owned(), worker)).or_default() += 1;
    }
    // Of 60 connections to a server, 30 for each worker are expected: fewer than 8 come once in 10^9 runs.
    ensure!(
        workers.len() == 2 * SERVERS.len() && workers.values().all(|&work| work >= 8),
        "work of the workers: {workers:?}"
    );
    Ok(format!(
        "two workers on each of three servers, with {} to {} connections",
        workers.values().min().unwrap_or(&0),
        workers.values().max().unwrap_or(&0)
    ))
}

/// The web server listens on 127.0.0.1 (or ::1) and another port than the VIP's.
fn other_port_loopback(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let port = Program::NginxOnLoopback.port();
    for server in SERVERS {
        let filter = format!("sport = :{port}");
        let mut ss = lab.netns(server).command("ss");
        let listeners = command::run(ss.args(["-Hltn", &filter]))?;
        let local = |line: &str| line.contains(" 127.0.0.1:") || line.contains(" [::1]:");
        ensure!(
            listeners.lines().count() > 0 && listeners.lines().all(local),
            "{server} listens elsewhere too: {listeners}"
        );
    }
    let large = lab.content.file("1MB")?;
    let mut connection = Connection::to_vip(lab)?;
    for round in 0..9 {
        let (pool, server) = (POOLS[round % 3], SERVERS[round % 3]);
        let answer = connection.ask(&Request::new("GET", format!("/{pool}/1MB")));
        counts.check(answer, &Expected::file(server, &large))?;
    }
    Ok(format!("{} served by loopback port {port}", lab.vip()))
}

/// More clients than the server's queue has room for: the last wait, and none is turned away.
fn accept_queue_full(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let server = SERVERS[0];
    let (before, start) = (listen_overflows(lab, server)?, Instant::now());
    let answers = crowd(lab, CROWD, 1, "whoami");
    let took = start.elapsed();
    let turned_away = listen_overflows(lab, server)? - before;
    for (number, answer) in answers.into_iter().enumerate() {
        let expected = Expected::status(200, server).bytes(format!("{server}\n").as_bytes());
        counts
            .check(answer, &expected)
            .with_context(|| format!("client {number}"))?;
    }
    ensure!(
        turned_away > 0,
        "the queue was never full: nothing is proved"
    );
    Ok(format!(
        "{CROWD} clients at once, all served after {:.1} s; its queue was full {turned_away} times",
        took.as_secs_f64()
    ))
}

/// As many clients at once, for so many pools in turn.
fn crowd(lab: &Lab, clients: usize, pools: usize, file: &str) -> Vec<anyhow::Result<Answer>> {
    let one = |number: usize| {
        let pool = POOLS[number % pools];
        let mut connection = Connection::to_vip(lab)?;
        connection.ask(&Request::new("GET", format!("/{pool}/{file}")))
    };
    thread::scope(|scope| {
        let one = &one;
        let running: Vec<_> = (0..clients)
            .map(|number| scope.spawn(move || one(number)))
            .collect();
        let ended = running.into_iter().map(|client| {
            let broken = |_| Err(anyhow!("a thread broke"));
            client.join().unwrap_or_else(broken)
        });
        ended.collect()
    })
}

/// How often a host's kernel found a listener's queue full (`TcpExtListenOverflows`).
fn listen_overflows(lab: &Lab, host: &str) -> anyhow::Result<u64> {
    let text = command::run(lab.netns(host).command("cat").arg("/proc/net/netstat"))?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next(), lines.next());
    let (names, values) = names
        .zip(values)
        .context("no TcpExt in /proc/net/netstat")?;
    let at = names.split(' ').position(|name| name == "ListenOverflows");
    let value = at.and_then(|at| values.split(' ').nth(at));
    Ok(value.context("no ListenOverflows")?.parse()?)
}
