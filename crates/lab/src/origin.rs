//! A web server of a few lines that tells what it was sent: nginx, in front of it, cannot answer a POST with the hash of its body.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::cluster::digest;

/// What an upload looked like on arrival; the answer's JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// Serves until the process ends. nginx speaks HTTP/1.0 to it: one request a connection, the body's length given.
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
        thread::spawn(move || answer(stream));
    }
}

fn answer(mut stream: TcpStream) -> anyhow::Result<()> {
    let received = receive(&mut BufReader::new(&stream))?;
    let body = serde_json::to_string(&received)?;
    write!(
        stream,
        "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}

fn receive(stream: &mut impl BufRead) -> anyhow::Result<Received> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let method = line.split(' ').next().unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse()?
            }
            Some(_) => {}
            None => break,
        }
    }
    let (bytes, sha256) = digest(&mut stream.take(length))?;
    Ok(Received {
        method,
        bytes,
        sha256,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_it_was_sent() {
        let request = b"POST /echo HTTP/1.0\r\nHost: x\r\ncontent-LENGTH: 3\r\n\r\nabcdef";
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned();
        assert_eq!(
            receive(&mut &request[..]).unwrap(),
            Received {
                method: "POST".into(),
                bytes: 3,
                sha256
            }
        );
    }
}
