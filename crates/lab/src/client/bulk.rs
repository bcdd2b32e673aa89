//! Many bytes at once: downloads side by side, thrown away by the kernel as they arrive, so that the client costs little.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::answer::Answer;
use super::fetch::head;
use crate::cluster::Lab;

/// Nothing for so long means that nothing will come.
const SILENCE: Duration = Duration::from_secs(30);
/// Thrown away by one system call.
const GULP: usize = 1 << 20;

/// The first `bytes` of the file at `path`.
#[derive(Clone, Debug)]
pub(crate) struct Download {
    pub(crate) from: SocketAddr,
    pub(crate) path: String,
    pub(crate) bytes: u64,
}

/// What came of downloads that all arrived whole.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// Of the bodies.
    pub(crate) bytes: u64,
    /// From the first connection to the last byte.
    pub(crate) seconds: f64,
    /// Who answered, in the order of the downloads.
    pub(crate) servers: Vec<String>,
}

/// Downloads from the client of the lab, all at once, each on a connection of its own.
///
/// # Errors
/// When one of them does not arrive whole.
pub(crate) fn download(lab: &Lab, downloads: &[Download]) -> anyhow::Result<Arrived> {
    lab.netns("client").inside(|| {
        let start = Instant::now();
        let servers: Vec<String> = thread::scope(|scope| {
            let running: Vec<_> = downloads
                .iter()
                .map(|download| scope.spawn(|| one(download)))
                .collect();
            running
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|_| Err(anyhow!("a download broke")))
                })
                .collect::<anyhow::Result<_>>()
        })?;
        Ok(Arrived {
            bytes: downloads.iter().map(|download| download.bytes).sum(),
            seconds: start.elapsed().as_secs_f64(),
            servers,
        })
    })
}

fn one(download: &Download) -> anyhow::Result<String> {
    let Download { from, path, bytes } = download;
    let stream = TcpStream::connect_timeout(from, SILENCE)
        .with_context(|| format!("cannot connect to {from}"))?;
    stream.set_read_timeout(Some(SILENCE))?;
    let last = bytes.saturating_sub(1);
    // In one segment, as any client has it.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {from}\r\nRange: bytes=0-{last}\r\n\r\n");
    (&stream).write_all(request.as_bytes())?;
    let mut input = BufReader::new(&stream);
    let mut answer = Answer::default();
    answer.take_head(&head(&mut input)?)?;
    ensure!(answer.status == 206, "status {}", answer.status);
    let length: u64 = answer
        .header("Content-Length")
        .unwrap_or_default()
        .parse()?;
    ensure!(length == *bytes, "{length} bytes instead of {bytes}");
    let read = input.buffer().len() as u64;
    throw_away(&stream, length - read)?;
    Ok(answer.server().to_owned())
}

/// tcp(7): with MSG_TRUNC the kernel drops what it would copy.
fn throw_away(stream: &TcpStream, bytes: u64) -> anyhow::Result<()> {
    let mut gulp = vec![0; GULP];
    let mut left = bytes;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(GULP).min(GULP);
        match recv(stream.as_raw_fd(), &mut gulp[..most], MsgFlags::MSG_TRUNC) {
            Ok(0) => bail!("the connection ended {left} bytes too early"),
            Ok(length) => left -= length as u64,
            Err(Errno::EINTR) => {}
            Err(error) => bail!("{left} bytes before the end: {error}"),
        }
    }
    Ok(())
}
