//! Waiting for something to become true, never for a time to pass.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::interrupt;

const INTERVAL: Duration = Duration::from_millis(20);

/// Asks until the answer is yes.
///
/// # Errors
/// When `what` is not so within `patience`, asking fails, or an interrupt was requested.
pub(crate) fn wait_until(
    what: &str,
    patience: Duration,
    mut so: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    while !so()? {
        interrupt::check()?;
        if start.elapsed() > patience {
            bail!("not so after {} s: {what}", patience.as_secs());
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}
