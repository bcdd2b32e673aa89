//! 5.1: the machine of the proxy that owns a flow is lost, at each moment of a connection's life.

use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use socket2::SockRef;

use super::nodes::{Before, Trace, concerned, lose, noticed};
use crate::client::{Connection, Dial, Expected, Request, Socket};
use crate::cluster::{Lab, POOLS, digest};
use crate::origin::Received;
use crate::report::Counts;
use crate::scenarios::SERVERS;

/// The clients' TCP sends again after 0.2, 0.6, 1.4, 3, 6.2 s: whoever has waited for longer has met more than one loss.
const NOTICED: Duration = Duration::from_secs(12);
/// Of a body before and after the fault.
const PART: usize = 4_000_000;
/// The server thinks for so long (ms): longer than it takes to cut a cable and to notice that.
const THINKING_MS: u64 = 3000;
/// Of which handshakes are tried.
const PORT: u16 = 23_456;

type Case = fn(&mut Lab, &mut Counts, &str) -> anyhow::Result<String>;

/// Names behind `5.1/`; the functions get the file that is transferred.
pub(super) const CASES: [(&str, Case); 10] = [
    ("cut-in-handshake", in_handshake),
    ("cut-before-request", before_request),
    ("cut-in-head", in_head),
    ("cut-before-answer", before_answer),
    ("cut-in-download", in_download),
    ("cut-in-upload", in_upload),
    ("cut-in-websocket", in_websocket),
    ("cut-idle", idle),
    ("cut-at-boundary", at_boundary),
    ("cut-and-back", and_back),
];

/// The SYN goes to a proxy that is gone already.
fn in_handshake(lab: &mut Lab, counts: &mut Counts, _: &str) -> anyhow::Result<String> {
    let dial = Dial {
        port: Some(PORT),
        ..Dial::default()
    };
    let before = Before::now(lab, Trace::ShookHands)?;
    let connection = dial.vip(lab)?;
    let owner = before.one_moved(lab)?;
    // Without TIME_WAIT: the next connection has the same addresses and ports, and so the same proxy.
    SockRef::from(connection.stream()).set_linger(Some(Duration::ZERO))?;
    drop(connection);

    let before = Before::now(lab, Trace::ShookHands)?;
    lose(lab, &[&owner])?;
    let start = Instant::now();
    let mut connection = dial.vip(lab)?;
    let took = soon(start)?;
    small(lab, counts, &mut connection, 0)?;
    lab.mend(&owner)?;
    let answered = before.one_moved(lab)?;
    ensure!(answered != owner, "{owner} answered, which was cut off");
    Ok(format!(
        "{owner} was cut off, {answered} answered the SYN after {took}"
    ))
}

fn before_request(lab: &mut Lab, counts: &mut Counts, _: &str) -> anyhow::Result<String> {
    let (mut connection, (), owner) = concerned(lab, Trace::ShookHands, |_| Ok(()))?;
    lose(lab, &[&owner])?;
    let start = Instant::now();
    small(lab, counts, &mut connection, 0)?;
    let took = soon(start)?;
    small(lab, counts, &mut connection, 1)?;
    Ok(format!(
        "{owner} shook hands and was cut off; answered after {took}"
    ))
}

/// Two of a head's four segments have come.
fn in_head(lab: &mut Lab, counts: &mut Counts, _: &str) -> anyhow::Result<String> {
    let pad = "x".repeat(1000);
    let pieces = [
        format!(
            "GET /a/1KB HTTP/1.1\r\nHost: {}\r\nX-One: {pad}\r\n",
            lab.vip()
        ),
        format!("X-Two: {pad}\r\n"),
        format!("X-Three: {pad}\r\n"),
        format!("X-Four: {pad}\r\n\r\n"),
    ];
    let (mut connection, (), owner) = concerned(lab, Trace::Punted, |connection| {
        for piece in &pieces[..2] {
            connection.write(piece.as_bytes())?;
        }
        Ok(())
    })?;
    lose(lab, &[&owner])?;
    let start = Instant::now();
    for piece in &pieces[2..] {
        connection.write(piece.as_bytes())?;
    }
    let file = lab.content.file("1KB")?;
    counts.check(connection.answer("GET"), &Expected::file(SERVERS[0], &file))?;
    let took = soon(start)?;
    small(lab, counts, &mut connection, 1)?;
    Ok(format!(
        "{owner} had half of the head; answered after {took}"
    ))
}

/// A server has the request and thinks.
fn before_answer(lab: &mut Lab, counts: &mut Counts, _: &str) -> anyhow::Result<String> {
    let request = Request::new("GET", format!("/a/late?ms={THINKING_MS}"));
    let (mut connection, (), owner) =
        concerned(lab, Trace::Decided, |connection| connection.send(&request))?;
    let start = Instant::now();
    lose(lab, &[&owner])?;
    let expected = Expected::status(200, SERVERS[0]).bytes(b"late\n");
    counts.check(connection.answer("GET"), &expected)?;
    let took = soon(start)?;
    small(lab, counts, &mut connection, 1)?;
    Ok(format!(
        "{owner} had bound the request; answered after {took} of thinking"
    ))
}

fn in_download(lab: &mut Lab, counts: &mut Counts, file: &str) -> anyhow::Result<String> {
    let file = lab.content.file(file)?;
    let request = Request::new("GET", format!("/a/{}", name(&file.path)?));
    let (mut connection, (mut answer, mut body), owner) =
        concerned(lab, Trace::Decided, |connection| {
            connection.send(&request)?;
            let answer = connection.head()?;
            let mut body = vec![0; PART];
            connection.input().read_exact(&mut body)?;
            Ok((answer, body))
        })?;
    lose(lab, &[&owner])?;
    let start = Instant::now();
    // What the client's kernel has already, and then more than that.
    let mut more = vec![0; 3 * PART];
    connection
        .input()
        .read_exact(&mut more)
        .context("after the cut")?;
    let took = soon(start)?;
    body.extend(more);
    let left = file.bytes - body.len() as u64;
    let mut whole = (&body[..]).chain(connection.input().take(left));
    (answer.bytes, answer.sha256) = digest(&mut whole)?;
    counts.check(Ok(answer), &Expected::file(SERVERS[0], &file))?;
    small(lab, counts, &mut connection, 1)?;
    Ok(format!(
        "{owner} was cut off; 12 MB more after {took}, then all"
    ))
}

fn in_upload(lab: &mut Lab, counts: &mut Counts, file: &str) -> anyhow::Result<String> {
    let file = lab.content.file(file)?;
    let body = std::fs::read(&file.path)?;
    let head = format!(
        "POST /b/echo HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
        lab.vip(),
        body.len()
    );
    let (first, rest) = body.split_at(PART.min(body.len()));
    let (mut connection, (), owner) = concerned(lab, Trace::Decided, |connection| {
        connection.write(head.as_bytes())?;
        connection.write(first).context("an upload")
    })?;
    lose(lab, &[&owner])?;
    let start = Instant::now();
    let (next, rest) = rest.split_at((3 * PART).min(rest.len()));
    connection.write(next).context("after the cut")?;
    let took = soon(start)?;
    connection.write(rest)?;
    let received = Received {
        method: "POST".to_owned(),
        bytes: file.bytes,
        sha256: file.sha256,
    };
    let expected = Expected::status(200, SERVERS[1]).bytes(&serde_json::to_vec(&received)?);
    counts.check(connection.answer("POST"), &expected)?;
    small(lab, counts, &mut connection, 2)?;
    Ok(format!(
        "{owner} was cut off; 12 MB more after {took}, then all"
    ))
}

fn in_websocket(lab: &mut Lab, counts: &mut Counts, _: &str) -> anyhow::Result<String> {
    let before = Before::now(lab, Trace::Decided)?;
    let mut socket = Socket::open(Connection::to_vip(lab)?, POOLS[0])?;
    let owner = before.one_moved(lab)?;
    counts.transfers += 1;
    let talked = (|| {
        socket.echo(1, 10_000)?;
        lose(lab, &[&owner])?;
        let start = Instant::now();
        socket.echo(2, 10_000)?;
        let took = soon(start)?;
        for number in 3..20 {
            socket.echo(number, number * 1000)?;
        }
        socket.close()?;
        Ok(took)
    })();
    let took = talked.inspect_err(|_: &anyhow::Error| counts.failed += 1)?;
    Ok(format!("{owner} was cut off; the next echo after {took}"))
}

/// Nothing happens on the connection while its proxy goes and all others notice.
fn idle(lab: &mut Lab, counts: &mut Counts, _: &str) -> anyhow::Result<String> {
    let (mut connection, owner) = asked_once(lab, counts)?;
    lose(lab, &[&owner])?;
    noticed(lab, &[&owner])?;
    let start = Instant::now();
    small(lab, counts, &mut connection, 1)?;
    let took = soon(start)?;
    small(lab, counts, &mut connection, 2)?;
    Ok(format!(
        "{owner} was cut off; the next request, at another server, after {took}"
    ))
}

/// The next request is sent before anybody has noticed.
fn at_boundary(lab: &mut Lab, counts: &mut Counts, _: &str) -> anyhow::Result<String> {
    let (mut connection, owner) = asked_once(lab, counts)?;
    lose(lab, &[&owner])?;
    let start = Instant::now();
    small(lab, counts, &mut connection, 1)?;
    let took = soon(start)?;
    small(lab, counts, &mut connection, 2)?;
    Ok(format!(
        "{owner} was cut off; the request after it, at another server, after {took}"
    ))
}

/// The proxy comes back with what it knew then, and the flow has moved on meanwhile.
fn and_back(lab: &mut Lab, counts: &mut Counts, _: &str) -> anyhow::Result<String> {
    let (mut connection, owner) = asked_once(lab, counts)?;
    lose(lab, &[&owner])?;
    noticed(lab, &[&owner])?;
    for pool in [1, 2, 0, 2] {
        small(lab, counts, &mut connection, pool)?;
    }
    super::nodes::healed(lab)?;
    for pool in [1, 2, 0] {
        small(lab, counts, &mut connection, pool)?;
    }
    Ok(format!(
        "{owner} was cut off and came back; seven requests at three servers meanwhile and after"
    ))
}

/// A connection with one answer, and who owns it.
pub(super) fn asked_once(
    lab: &mut Lab,
    counts: &mut Counts,
) -> anyhow::Result<(Connection, String)> {
    let file = lab.content.file("1KB")?;
    let request = Request::new("GET", "/a/1KB");
    let (connection, answer, owner) = concerned(lab, Trace::Decided, |connection| {
        Ok(connection.ask(&request))
    })?;
    counts.check(answer, &Expected::file(SERVERS[0], &file))?;
    Ok((connection, owner))
}

/// A small request of a pool.
pub(super) fn small(
    lab: &mut Lab,
    counts: &mut Counts,
    connection: &mut Connection,
    pool: usize,
) -> anyhow::Result<()> {
    let file = lab.content.file("1KB")?;
    let answer = connection.ask(&Request::new("GET", format!("/{}/1KB", POOLS[pool])));
    counts.check(answer, &Expected::file(SERVERS[pool], &file))?;
    Ok(())
}

/// What has passed since, if that is no more than a client's TCP explains.
pub(super) fn soon(start: Instant) -> anyhow::Result<String> {
    let took = start.elapsed();
    ensure!(took < NOTICED, "only after {:.1} s", took.as_secs_f64());
    Ok(format!("{:.1} s", took.as_secs_f64()))
}

fn name(path: &std::path::Path) -> anyhow::Result<&str> {
    path.file_name()
        .and_then(|name| name.to_str())
        .context("a file without a name")
}
