//! Section 2: messages whose ends are told in other ways than by a length; the connection goes on behind them, at other servers.

use std::fmt::Write;
use std::fs;

use anyhow::ensure;

use super::Ground;
use crate::client::{Answer, Connection, Expected, Request};
use crate::cluster::{File, Lab, digest_of};
use crate::origin::Received;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

pub(super) fn cases(recorder: &mut Recorder, ground: &mut Ground<'_>) -> anyhow::Result<()> {
    recorder.case("2/chunked-upload", |counts| {
        chunked_upload(ground.lab()?, counts)
    })?;
    recorder.case("2/expect-100-continue", |counts| {
        expect_continue(ground.lab()?, counts)
    })?;
    recorder.case("2/head-and-204-304", |counts| {
        without_body(ground.lab()?, counts)
    })
}

/// A connection to the VIP that has been to backend2 already.
fn used_connection(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<(Connection, File)> {
    let small = lab.content.file("1KB")?;
    let mut connection = Connection::to_vip(lab)?;
    let first = connection.ask(&Request::new("GET", "/b/1KB"));
    counts.check(first, &Expected::file(SERVERS[1], &small))?;
    Ok((connection, small))
}

fn echoed(body: &[u8]) -> anyhow::Result<Expected> {
    let received = Received {
        method: "POST".into(),
        bytes: body.len() as u64,
        sha256: digest_of(body),
    };
    Ok(Expected::status(200, SERVERS[0]).bytes(&serde_json::to_vec(&received)?))
}

/// Chunks of all sizes, each in segments of its own, an extension, a trailer.
fn chunked_upload(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let (mut connection, small) = used_connection(lab, counts)?;
    let body = fs::read(lab.content.file("1MB")?.path)?;
    connection.write(b"POST /a/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let (mut rest, mut chunks) = (&body[..], 0);
    for size in [1, 15, 16, 1400, 70_000, 300_000].into_iter().cycle() {
        let (chunk, later) = rest.split_at(size.min(rest.len()));
        let mut line = String::new();
        writeln!(
            line,
            "{:x}{}\r",
            chunk.len(),
            if size == 16 { ";e=1" } else { "" }
        )?;
        connection.write(line.as_bytes())?;
        connection.write(chunk)?;
        connection.write(b"\r\n")?;
        (rest, chunks) = (later, chunks + 1);
        if rest.is_empty() {
            break;
        }
    }
    connection.write(b"0\r\nX-Trailer: yes\r\n\r\n")?;
    counts.check(connection.answer("POST"), &echoed(&body)?)?;
    let next = connection.ask(&Request::new("GET", "/c/1KB"));
    counts.check(next, &Expected::file(SERVERS[2], &small))?;
    Ok(format!(
        "{chunks} chunks, and the next request at another server"
    ))
}

/// The body is sent when the server has said 100, not before.
fn expect_continue(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let (mut connection, small) = used_connection(lab, counts)?;
    let body = fs::read(lab.content.file("1MB")?.path)?;
    let head = format!(
        "POST /a/echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection.write(head.as_bytes())?;
    let interim = connection.head()?;
    ensure!(
        interim.interim == [100],
        "{} came instead of 100",
        interim.status
    );
    connection.write(&body)?;
    counts.check(connection.answer("POST"), &echoed(&body)?)?;
    let next = connection.ask(&Request::new("GET", "/c/1KB"));
    counts.check(next, &Expected::file(SERVERS[2], &small))?;
    Ok("100 before the body, and the next request at another server".into())
}

/// Answers that have a length and no body, or neither, each followed by one of another server.
fn without_body(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let (mut connection, small) = used_connection(lab, counts)?;
    let put = Request::new("PUT", "/a/put/gone").body(small.path.clone());
    counts.check(connection.ask(&put), &Expected::status(201, SERVERS[0]))?;
    let mut ask = |counts: &mut Counts, request: Request, expected: Expected| {
        let answer = counts.check(connection.ask(&request), &expected)?;
        let whole = connection.ask(&Request::new("GET", "/b/1KB"));
        counts.check(whole, &Expected::file(SERVERS[1], &small))?;
        anyhow::Ok(answer)
    };
    let nothing = |status, server| Expected::status(status, server).bytes(&[]);
    let head: Answer = ask(
        counts,
        Request::new("HEAD", "/a/1KB"),
        nothing(200, SERVERS[0]),
    )?;
    ensure!(
        head.header("Content-Length") == Some("1000"),
        "no length for a HEAD"
    );
    ask(
        counts,
        Request::new("DELETE", "/a/put/gone"),
        nothing(204, SERVERS[0]),
    )?;
    let tag = head.header("ETag").unwrap_or_default();
    ask(
        counts,
        Request::new("GET", "/a/1KB").header("If-None-Match", tag),
        nothing(304, SERVERS[0]),
    )?;
    Ok("HEAD, 204 and 304, each followed by a request for another server".into())
}
