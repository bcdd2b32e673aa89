//! A web server of a few lines for what nginx, in front of it, cannot do: it tells what it was sent, answers late or bit by bit, and echoes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::cluster::digest;
use crate::websocket::{self, Frame};

/// The longest that anything takes by wish of the client (ms).
const LONGEST_MS: u64 = 120_000;

/// What an upload looked like on arrival; the answer's JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// Serves until the process ends. nginx sends one request a connection, and gives the body's length.
///
/// # Errors
/// When it cannot listen.
pub(crate) fn serve(listen: SocketAddr, ready: impl FnOnce()) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    ready();
    loop {
        let Ok((stream, _)) = listener.accept() else {
            continue;
        };
        thread::spawn(move || answer(&stream));
    }
}

fn answer(mut stream: &TcpStream) -> anyhow::Result<()> {
    let mut input = BufReader::new(stream);
    let head = Head::receive(&mut input)?;
    match head.path().rsplit('/').next() {
        Some("events") => events(stream, &head),
        Some("late") => {
            thread::sleep(head.millis("ms"));
            whole(stream, "text/plain", "late\n")
        }
        Some("socket") => socket(stream, &mut input, &head),
        _ => {
            let received = receive(&mut input, head)?;
            whole(
                &mut stream,
                "application/json",
                &serde_json::to_string(&received)?,
            )
        }
    }
}

fn whole(mut stream: impl Write, kind: &str, body: &str) -> anyhow::Result<()> {
    write!(
        stream,
        "HTTP/1.0 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}

fn receive(input: &mut impl Read, head: Head) -> anyhow::Result<Received> {
    let (bytes, sha256) = digest(&mut input.take(head.length))?;
    Ok(Received {
        method: head.method,
        bytes,
        sha256,
    })
}

/// Server-Sent Events, each with its number and the time when it is sent: `data: 3 1700000000000`.
fn events(mut stream: &TcpStream, head: &Head) -> anyhow::Result<()> {
    stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
    for number in 0..head.number("count") {
        write!(stream, "data: {number} {}\n\n", unix_ms())?;
        thread::sleep(head.millis("ms"));
    }
    Ok(())
}

/// Milliseconds of Unix time: the hosts of a lab have one clock.
pub(crate) fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// A WebSocket that says again what it is told, for clients that send the one nonce it knows.
fn socket(mut stream: &TcpStream, input: &mut impl Read, head: &Head) -> anyhow::Result<()> {
    if head.key.as_deref() != Some(websocket::KEY) {
        stream.write_all(b"HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(());
    }
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        websocket::ACCEPT
    )?;
    loop {
        let mut frame = Frame::read(input)?;
        if frame.opcode == websocket::PING {
            frame.opcode = websocket::PONG;
        }
        frame.write(&mut stream, None)?;
        if frame.opcode == websocket::CLOSE {
            return Ok(());
        }
    }
}

/// What of a request's head matters here.
#[derive(Default)]
struct Head {
    method: String,
    target: String,
    length: u64,
    /// Of a WebSocket's handshake.
    key: Option<String>,
}

impl Head {
    fn receive(input: &mut impl BufRead) -> anyhow::Result<Self> {
        let mut line = String::new();
        input.read_line(&mut line)?;
        let mut words = line.split(' ').map(str::to_owned);
        let mut head = Self {
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            ..Self::default()
        };
        loop {
            line.clear();
            input.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                return Ok(head);
            };
            if name.eq_ignore_ascii_case("content-length") {
                head.length = value.trim().parse()?;
            } else if name.eq_ignore_ascii_case("sec-websocket-key") {
                head.key = Some(value.trim().to_owned());
            }
        }
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A parameter of the query; 0 if there is none.
    fn number(&self, name: &str) -> u64 {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.find_map(|(known, value)| (known == name).then_some(value));
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name).min(LONGEST_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_it_was_sent() {
        let mut request =
            &b"POST /echo?a=1&ms=20 HTTP/1.0\r\nHost: x\r\ncontent-LENGTH: 3\r\n\r\nabcdef"[..];
        let head = Head::receive(&mut request).unwrap();
        assert_eq!(
            (head.path(), head.millis("ms"), head.number("none")),
            ("/echo", Duration::from_millis(20), 0)
        );
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned();
        assert_eq!(
            receive(&mut request, head).unwrap(),
            Received {
                method: "POST".into(),
                bytes: 3,
                sha256
            }
        );
    }
}
