//! Real curl on a host of the lab.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::answer::Answer;
use crate::cluster::{Lab, digest};
use crate::command;

/// What of curl's `%{json}` matters here.
#[derive(Deserialize)]
struct WriteOut {
    time_total: f64,
    /// Also if it went to a file.
    size_download: u64,
}

/// Seconds without progress after which a transfer counts as failed: on a good path, and where frames are lost. There an upload that curl
/// has handed to its kernel (some MB) may take so long to arrive if the client's TCP has no SACK.
const STALL: [&str; 2] = ["20", "60"];

/// One request by curl on the client; `arguments` are added to its command line.
///
/// # Errors
/// When curl fails, with what it said.
pub(crate) fn curl(lab: &Lab, url: &str, arguments: &[&str]) -> anyhow::Result<Answer> {
    // Several may run at once.
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let heads = lab.dir("client").join(format!("heads-{call}"));
    let mut curl = lab.netns("client").command("curl");
    curl.args([
        "-q",
        "-sS",
        "--http1.1",
        "--globoff",
        "--noproxy",
        "*",
        "-w",
        "%{stderr}%{json}",
    ]);
    let stall = STALL[usize::from(lab.options.faults.loss > 0.0)];
    curl.args(["--connect-timeout", stall]);
    curl.args(["--speed-limit", "1", "--speed-time", stall]);
    curl.arg("-D").arg(&heads).args(arguments).arg(url);
    let ((_, sha256), output) = command::piped(&mut curl, &[], |body| digest(body))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let (said, json) = said.split_at(said.find('{').unwrap_or(said.len()));
    if !output.status.success() {
        bail!("{}", said.trim());
    }
    let told: WriteOut = serde_json::from_str(json).context("curl told no figures")?;
    let mut answer = Answer {
        bytes: told.size_download,
        sha256,
        seconds: told.time_total,
        ..Answer::default()
    };
    let text = fs::read(&heads)?;
    fs::remove_file(&heads)?;
    let mut rest = &text[..];
    while let Some(end) = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
        answer.take_head(&rest[..end + 4])?;
        rest = &rest[end + 4..];
    }
    Ok(answer)
}

/// `http://10.77.0.10:80/a/1KB`
pub(crate) fn url(to: SocketAddr, path: &str) -> String {
    format!("http://{to}{path}")
}
