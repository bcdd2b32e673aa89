//! Section 6: the agents' access logs say what the servers' own say.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::{Ground, PROXY};
use crate::client::{Connection, Expected, Request, curl, url};
use crate::cluster::{Lab, POOLS, Reload, wait_until};
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;
use crate::websocket::{self, Frame};

const FILE: &str = "agent-access.log";
/// A broken connection is in the log after ten seconds at the latest.
const PATIENCE: Duration = Duration::from_secs(30);
/// The answer to a long poll (ms).
const LATE_MS: u64 = 400;
const ABORTED: &str = "/b/64MiB";

/// What a server and its agent both know of an answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Logged {
    client: String,
    request: String,
    status: u64,
    bytes: u64,
}

pub(super) fn cases(recorder: &mut Recorder, ground: &mut Ground<'_>) -> anyhow::Result<()> {
    recorder.case("6/access-log-combined", |counts| {
        let lab = ground.lab()?;
        with_log(lab, "combined")?;
        let told = agree(lab, counts, "case=6.combined", combined)?;
        moved_away(lab, counts)?;
        Ok(told)
    })?;
    recorder.case("6/access-log-json", |counts| {
        let lab = ground.lab()?;
        with_log(lab, "json")?;
        let vip = lab.vip().to_string();
        let told = agree(lab, counts, "case=6.json", |line| json(line, &vip));
        for server in SERVERS {
            let text = lab.configuration(server)?;
            lab.run_with(server, &text)?;
        }
        told
    })
}

fn with_log(lab: &mut Lab, format: &str) -> anyhow::Result<()> {
    let options =
        format!("[backend]\naccess_log = \"{FILE}\"\naccess_log_format = \"{format}\"\n\n");
    for server in SERVERS {
        let text = lab.configuration(server)?;
        let begins = text.find("[[backend.service]]").context("no service")?;
        let text = format!("{}{options}{}", &text[..begins], &text[begins..]);
        lab.run_with(server, &text)?;
    }
    let text = lab.configuration(PROXY)?;
    lab.run_with(PROXY, &text)
}

/// Requests of all kinds, and then line by line.
fn agree(
    lab: &mut Lab,
    counts: &mut Counts,
    mark: &str,
    parse: impl Fn(&str) -> anyhow::Result<Logged>,
) -> anyhow::Result<String> {
    let asked = traffic(lab, counts, mark)?;
    let lab = &*lab;
    let both = |server: &str| -> anyhow::Result<(Vec<Logged>, Vec<Logged>)> {
        let read = |file: &str, parse: &dyn Fn(&str) -> anyhow::Result<Logged>| {
            let text = fs::read_to_string(lab.dir(server).join(file))?;
            let lines = text.lines().filter(|line| line.contains(mark));
            let mut lines = lines.map(parse).collect::<anyhow::Result<Vec<_>>>()?;
            lines.sort();
            anyhow::Ok(lines)
        };
        Ok((read("access.log", &nginx)?, read(FILE, &parse)?))
    };
    let mut lines = 0;
    for (server, asked) in SERVERS.into_iter().zip(asked) {
        let complete = wait_until(
            &format!("{server} and its agent log {asked} answers"),
            PATIENCE,
            || {
                let (own, agents) = both(server)?;
                Ok(own.len() >= asked && agents.len() >= asked)
            },
        );
        let (own, agents) = both(server)?;
        complete.with_context(|| missing(&own, &agents))?;
        ensure!(
            own.len() == asked,
            "{server} logged {} of {asked}",
            own.len()
        );
        for (own, agents) in own.iter().zip(&agents) {
            let same = own == agents
                || own.request.contains(ABORTED)
                    && (&own.client, &own.request, own.status)
                        == (&agents.client, &agents.request, agents.status)
                    // nginx counts what it has given to the kernel.
                    && (1..=own.bytes).contains(&agents.bytes);
            ensure!(same, "{server} says {own:?}, its agent {agents:?}");
        }
        ensure!(own.len() == agents.len(), missing(&own, &agents));
        lines += own.len();
        let lost = lab.counter(server, "baton_access_log_lines_total{outcome=\"lost\"}")?;
        ensure!(lost == 0, "the agent of {server} lost {lost} lines");
    }
    Ok(format!("{lines} lines of three servers agree"))
}

fn missing(own: &[Logged], agents: &[Logged]) -> String {
    let mut count: BTreeMap<&Logged, i32> = BTreeMap::new();
    own.iter()
        .for_each(|line| *count.entry(line).or_default() += 1);
    agents
        .iter()
        .for_each(|line| *count.entry(line).or_default() -= 1);
    count.retain(|_, difference| *difference != 0);
    format!("lines that only the server (1) or only the agent (-1) has: {count:?}")
}

/// How many requests each server got.
fn traffic(lab: &mut Lab, counts: &mut Counts, mark: &str) -> anyhow::Result<[usize; 3]> {
    let mut asked = [0; 3];
    for name in ["0B", "1MB", "64MiB"] {
        lab.content.file(name)?;
    }
    let file = lab.content.file("1KB")?;
    for (place, server) in SERVERS.into_iter().enumerate() {
        // Each connection sees all servers.
        let pool = |further: usize| POOLS[(place + further) % 3];
        let path = |further: usize, name: &str| {
            let sign = if name.contains('?') { '&' } else { '?' };
            format!("/{}/{name}{sign}{mark}", pool(further))
        };
        let mut connection = Connection::to_vip(lab)?;
        let tag = ask(&mut connection, Request::new("GET", path(0, "1KB")), 200)?;
        let upload = lab.dir(server).join("unique");
        let small = lab.own_file(server, 3000)?.path;
        let own = |method: &str, name: &str| Request::new(method, path(0, name));
        let next = |method: &str, name: &str| Request::new(method, path(1, name));
        let long = "x".repeat(3500);
        for (request, status) in [
            (own("GET", "1MB"), 200),
            (next("GET", "none"), 404),
            (own("GET", "1MB").header("Range", "bytes=1000-1999"), 206),
            (own("GET", "1KB").header("If-None-Match", &tag), 304),
            (next("HEAD", "1MB"), 200),
            (own("PUT", "put/logged").body(upload.clone()), 201),
            (next("POST", "echo").body(upload), 200),
            (own("DELETE", "put/logged"), 204),
            (next("GET", &format!("late?ms={LATE_MS}")), 200),
            (own("GET", "0B").header("X-Long", &long), 200),
            (next("GET", "1KB").header("Referer", "http://a/\"b\""), 200),
        ] {
            ask(&mut connection, request, status)?;
        }
        // A head of several segments, a chunked answer, and five at once.
        connection.write(
            format!(
                "GET {} HTTP/1.1\r\nHost: x\r\n\r\n",
                path(0, "chunked/3000")
            )
            .as_bytes(),
        )?;
        let head = connection.head()?;
        ensure!(head.status == 200, "{} for a chunked answer", head.status);
        let mut body = Vec::new();
        crate::client::Chunks::new(connection.input()).read_to_end(&mut body)?;
        ensure!(body == fs::read(&small)?, "another chunked body");
        let burst: String = (0..5)
            .map(|further| format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", path(further, "1KB")))
            .collect();
        connection.write(burst.as_bytes())?;
        for further in 0..5 {
            let expected = Expected::file(SERVERS[(place + further) % 3], &file);
            counts.check(connection.answer("GET"), &expected)?;
        }
        // Closed by the client's wish, and at the end of an answer without a length.
        ask(
            &mut connection,
            own("GET", "1KB").header("Connection", "close"),
            200,
        )?;
        let mut connection = Connection::to_vip(lab)?;
        connection.write(
            format!("GET {} HTTP/1.0\r\n\r\n", path(0, "events?count=3&ms=20")).as_bytes(),
        )?;
        let mut all = Vec::new();
        connection.input().read_to_end(&mut all)?;
        ensure!(all.starts_with(b"HTTP/1.1 200"), "no answer until the end");
        talk(lab, &path(0, "socket"))?;

        asked[place] += 1 + 6 + 1 + 2 + 1 + 1 + 1;
        asked[(place + 1) % 3] += 5 + 2;
        asked[(place + 2) % 3] += 1;
    }
    abort(lab, mark)?;
    asked[1] += 1;
    Ok(asked)
}

/// The ETag of the answer, or nothing.
fn ask(connection: &mut Connection, request: Request, status: u16) -> anyhow::Result<String> {
    let answer = connection.ask(&request)?;
    ensure!(
        answer.status == status,
        "{} instead of {status} for {request:?}",
        answer.status
    );
    Ok(answer.header("ETag").unwrap_or_default().to_owned())
}

/// A WebSocket with one message.
fn talk(lab: &Lab, path: &str) -> anyhow::Result<()> {
    let mut connection = Connection::to_vip(lab)?;
    let handshake = Request::new("GET", path)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", websocket::KEY);
    connection.send(&handshake)?;
    let switched = connection.head()?;
    ensure!(
        switched.interim == [101],
        "{} instead of 101",
        switched.status
    );
    for (opcode, payload) in [
        (websocket::TEXT, vec![b'a'; 1000]),
        (websocket::CLOSE, vec![3, 232]),
    ] {
        let frame = Frame { opcode, payload };
        let mut output: &TcpStream = connection.stream();
        frame.write(&mut output, Some([1, 2, 3, 4]))?;
        output.flush()?;
        let echo = Frame::read(connection.input()).context("no echo")?;
        ensure!(echo == frame, "another message came back");
    }
    let mut rest = Vec::new();
    connection.input().read_to_end(&mut rest)?;
    ensure!(rest.is_empty(), "more than the echo");
    Ok(())
}

/// A download that the client gives up.
fn abort(lab: &Lab, mark: &str) -> anyhow::Result<()> {
    let mut connection = Connection::to_vip(lab)?;
    connection.send(&Request::new("GET", format!("{ABORTED}?{mark}")))?;
    let mut some = vec![0; 1_000_000];
    connection.input().read_exact(&mut some)?;
    Ok(())
}

/// The log is moved away, as logrotate does; a reload makes a new one.
fn moved_away(lab: &Lab, counts: &mut Counts) -> anyhow::Result<()> {
    let server = SERVERS[0];
    let (file, old) = (
        lab.dir(server).join(FILE),
        lab.dir(server).join("agent-access.log.1"),
    );
    fs::rename(&file, &old)?;
    ensure!(
        lab.reload(server)? == Reload::Taken,
        "the reload was refused"
    );
    let ask = |counts: &mut Counts| {
        let answer = curl(lab, &url(lab.vip(), "/a/whoami?case=6.moved"), &[]);
        counts
            .check(answer, &Expected::status(200, server))
            .map(drop)
    };
    wait_until("a new log is there", PATIENCE, || Ok(file.exists()))?;
    ask(counts)?;
    let has = |path: &PathBuf| Ok(fs::read_to_string(path)?.contains("?case=6.moved "));
    wait_until("the new log has the request", PATIENCE, || has(&file))?;
    ensure!(!has(&old)?, "the line is in the old log");
    Ok(())
}

/// `$connection $connection_requests $remote_addr "$request" $status $body_bytes_sent`
fn nginx(line: &str) -> anyhow::Result<Logged> {
    let (before, request, after) = quoted(line)?;
    let client = before.split(' ').nth(2).context("no client")?;
    logged(client, request, after)
}

fn combined(line: &str) -> anyhow::Result<Logged> {
    let (before, request, after) = quoted(line)?;
    let (client, time) = before.split_once(" - - [").context("no client")?;
    let zone = time.ends_with(" +0000] ");
    ensure!(
        zone && time.len() == "21/Nov/2026:17:45:38 +0000] ".len(),
        "not a time with its zone: {time:?}"
    );
    let (counted, fields) = after.split_once(" \"").context("no referer")?;
    if request.starts_with("GET /") && fields.contains("http") {
        ensure!(
            fields == "http://a/\\x22b\\x22\" \"-\"",
            "not as sent: {fields}"
        );
    }
    logged(client, request, counted)
}

fn json(line: &str, vip: &str) -> anyhow::Result<Logged> {
    let object: Value = serde_json::from_str(line)?;
    let text = |name: &str| {
        object[name]
            .as_str()
            .with_context(|| format!("no {name} in {line}"))
    };
    let number = |name: &str| {
        object[name]
            .as_f64()
            .with_context(|| format!("no {name} in {line}"))
    };
    let (first, all) = (number("first_byte_ms")?, number("duration_ms")?);
    ensure!(
        first > 0.0 && first <= all,
        "first byte after {first} ms of {all}"
    );
    let request = text("request")?;
    let waited = all >= LATE_MS as f64 || !request.contains("late?");
    ensure!(waited, "a late answer after {all} ms");
    ensure!(text("vip")? == vip, "not the VIP: {line}");
    let client: std::net::SocketAddr = text("client")?.parse()?;
    Ok(Logged {
        client: client.ip().to_string(),
        request: request.to_owned(),
        status: number("status")? as u64,
        bytes: number("body_bytes")? as u64,
    })
}

fn quoted(line: &str) -> anyhow::Result<(&str, &str, &str)> {
    let mut parts = line.splitn(3, '"');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(before), Some(request), Some(after)) => Ok((before, request, after)),
        _ => bail!("not a line of a log: {line}"),
    }
}

fn logged(client: &str, request: &str, counted: &str) -> anyhow::Result<Logged> {
    let (status, bytes) = counted.trim().split_once(' ').context("no bytes")?;
    Ok(Logged {
        client: client.to_owned(),
        request: request.to_owned(),
        status: status.parse()?,
        bytes: bytes.parse()?,
    })
}
