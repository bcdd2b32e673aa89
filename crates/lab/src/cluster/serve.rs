//! Programs on the hosts: started, and seen to serve.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use super::lab::Lab;
use super::process::Process;
use super::wait::wait_until;
use crate::command;

/// Within this time a program has begun to serve, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(15);

impl Lab {
    /// Runs a program on a host until the lab goes down; `log` is the name of a file in the host's directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(
        &mut self,
        host: &str,
        log: &str,
        command: &mut Command,
    ) -> anyhow::Result<()> {
        let what = format!("{} on {host}", log.trim_end_matches(".log"));
        let process = Process::start(what, command, &self.dir(host).join(log))?;
        self.state.note(process)
    }

    /// Waits until `curl` on the host gets an answer with `expected` in it.
    ///
    /// # Errors
    /// When that takes too long or a program of the lab has ended, with the end of `log`.
    pub(crate) fn serves(
        &self,
        host: &str,
        url: &str,
        expected: &str,
        log: &str,
    ) -> anyhow::Result<()> {
        let log = self.dir(host).join(log);
        let answered = wait_until(
            &format!("{url} on {host} answers {expected:?}"),
            PATIENCE,
            || {
                self.all_alive()?;
                let output = command::output(self.netns(host).command("curl").args([
                    "-q",
                    "-sS",
                    "-m",
                    "2",
                    "--noproxy",
                    "*",
                    url,
                ]))?;
                Ok(String::from_utf8_lossy(&output.stdout).contains(expected))
            },
        );
        answered.with_context(|| {
            format!(
                "{host} does not serve; the end of {}:\n{}",
                log.display(),
                end_of(&log)
            )
        })
    }

    /// Waits until a program of ours has said something: it does so when it has begun.
    pub(super) fn prints(&self, log: &str, host: &str) -> anyhow::Result<()> {
        let log = self.dir(host).join(log);
        wait_until(&format!("{} has begun", log.display()), PATIENCE, || {
            self.all_alive()?;
            Ok(fs::metadata(&log)?.len() > 0)
        })
    }

    fn all_alive(&self) -> anyhow::Result<()> {
        match self.state.dead() {
            None => Ok(()),
            Some(process) => {
                let (program, host) = process
                    .what
                    .split_once(" on ")
                    .unwrap_or((&process.what, ""));
                bail!(
                    "{} ended: {}",
                    process.what,
                    end_of(&self.dir(host).join(format!("{program}.log")))
                )
            }
        }
    }
}

/// The last lines of a log, for an error.
pub(super) fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
