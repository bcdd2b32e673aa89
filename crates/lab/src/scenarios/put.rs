//! Many uploads at once, each on a connection of its own, stored by a back end.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::client::Connection;
use crate::cluster::{File, Lab, digest};
use crate::report::Counts;

/// With heartbeats of 5 s a proxy that is gone is missed after 15 to 18 s, and clients' TCP tries ever less often.
const SILENCE: Duration = Duration::from_mins(3);
const PIECE: usize = 64 << 10;

/// A file, and how much of it all uploads together have written to their connections.
pub(super) struct Uploads {
    to: SocketAddr,
    body: Vec<u8>,
    written: AtomicU64,
}

impl Uploads {
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn of(lab: &Lab, file: &File) -> anyhow::Result<Self> {
        Ok(Self {
            to: lab.vip(),
            body: fs::read(&file.path)?,
            written: AtomicU64::new(0),
        })
    }

    /// Bytes that the connections have taken so far.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// One upload to backend1, from this thread's network namespace; the seconds it took.
    ///
    /// # Errors
    /// When it is not answered as it should be.
    pub(super) fn put(&self, name: &str) -> anyhow::Result<f64> {
        let start = Instant::now();
        let mut connection = Connection::open(self.to)?;
        connection.stream().set_read_timeout(Some(SILENCE))?;
        connection.stream().set_write_timeout(Some(SILENCE))?;
        let head = format!(
            "PUT /a/put/{name} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
            self.to,
            self.body.len()
        );
        connection.write(head.as_bytes())?;
        for piece in self.body.chunks(PIECE) {
            connection.write(piece).context("in the middle")?;
            self.written
                .fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        let answer = connection.answer("PUT")?;
        ensure!(answer.status == 201, "status {}", answer.status);
        Ok(start.elapsed().as_secs_f64())
    }
}

/// Counts an upload and compares what the back end has stored of it, which goes.
///
/// # Errors
/// When it failed, or other bytes were stored.
pub(super) fn stored(
    lab: &Lab,
    counts: &mut Counts,
    name: &str,
    put: anyhow::Result<f64>,
    file: &File,
) -> anyhow::Result<f64> {
    counts.transfers += 1;
    let seconds = put.inspect_err(|_| counts.failed += 1)?;
    let place = lab.dir("backend1").join("a/put").join(name);
    let found = fs::File::open(&place).and_then(|mut stored| digest(&mut stored));
    let _ = fs::remove_file(&place);
    let found = found.with_context(|| format!("nothing was stored as {name}"));
    if found.inspect_err(|_| counts.failed += 1)? != (file.bytes, file.sha256.clone()) {
        counts.wrong_bytes += 1;
        bail!("{name} was stored with other bytes");
    }
    Ok(seconds)
}
