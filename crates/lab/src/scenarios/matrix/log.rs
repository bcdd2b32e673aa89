//! What the servers' own logs say.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::Context;

use crate::cluster::{Lab, wait_until};

/// The log is written within this time after an answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// nginx keeps lines for 100 ms.
const SETTLED: Duration = Duration::from_millis(400);

/// How often a server has logged a request with `words` in it.
///
/// # Errors
/// When there is no log.
pub(super) fn logged(lab: &Lab, server: &str, words: &str) -> anyhow::Result<usize> {
    let log = lab.dir(server).join("access.log");
    let text = fs::read_to_string(&log).with_context(|| format!("no log at {server}"))?;
    Ok(text.lines().filter(|line| line.contains(words)).count())
}

/// Waits until a server has logged that many; more are seen too.
///
/// # Errors
/// When it has not, in time.
pub(super) fn wait_logged(
    lab: &Lab,
    server: &str,
    words: &str,
    times: usize,
) -> anyhow::Result<usize> {
    let what = format!("{server} has logged {words:?} {times} times");
    wait_until(&what, PATIENCE, || Ok(logged(lab, server, words)? >= times)).map_err(|error| {
        let found = logged(lab, server, words).unwrap_or_default();
        error.context(format!("it has logged {found}"))
    })?;
    logged(lab, server, words)
}

/// Waits until what has happened is in the logs: for what must not be there.
pub(super) fn settle() {
    thread::sleep(SETTLED);
}
