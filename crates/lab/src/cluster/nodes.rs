//! The nodes of a lab, as their operator has them: configured, started, asked, reloaded, stopped.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use super::baton::{ADMIN, configuration};
use super::lab::Lab;
use super::options::Mechanism;
use super::process::Process;
use super::serve::end_of;
use super::wait::wait_until;
use crate::command;
use crate::topology::Host;

const LOG: &str = "baton.log";
/// A node that is asked to does everything within this time.
const PATIENCE: Duration = Duration::from_secs(15);
/// What a node says of a reload, whichever way it ended.
const TAKEN: &str = "configuration reloaded";
const KEPT: &str = "the old configuration stays";

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// The new configuration holds, or will in a moment.
    Taken,
    /// The file has errors.
    Kept,
}

impl Lab {
    /// Hosts where `baton run` runs: without the agent a back end needs none.
    pub(crate) fn nodes(&self) -> Vec<Host> {
        let mut nodes = match self.options.mechanism {
            Mechanism::Handoff => self.topology.backends(),
            Mechanism::Relay => Vec::new(),
        };
        nodes.extend(self.topology.proxies());
        nodes.extend(self.topology.balancers());
        nodes
    }

    /// The configuration that a node of this lab has in the beginning.
    ///
    /// # Errors
    /// When there is no such host.
    pub(crate) fn configuration(&self, host: &str) -> anyhow::Result<String> {
        let hosts = self.topology.servers();
        let host = hosts
            .iter()
            .find(|known| known.name == host)
            .with_context(|| format!("there is no {host}"))?;
        Ok(configuration(&self.options, host))
    }

    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_configuration(&self, host: &str, text: &str) -> anyhow::Result<()> {
        let file = self.configuration_file(host);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Lets a node run with this configuration: starts it anew if it runs with another.
    ///
    /// # Errors
    /// When it does not stop or does not begin to serve.
    pub(crate) fn run_with(&mut self, host: &str, text: &str) -> anyhow::Result<()> {
        let running = self.runs(host);
        if running && fs::read_to_string(self.configuration_file(host))? == text {
            return Ok(());
        }
        if running {
            self.stop_node(host)?;
        }
        self.write_configuration(host, text)?;
        self.launch(host)?;
        self.ready(host)
    }

    /// Starts a node; [`Lab::ready`] waits for it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(crate) fn launch(&mut self, host: &str) -> anyhow::Result<()> {
        let mut run = self.netns(host).command(self.baton());
        run.arg("run")
            .arg("--config")
            .arg(self.configuration_file(host));
        self.start(host, LOG, &mut run)
    }

    /// Waits until a node says that all its roles are ready.
    ///
    /// # Errors
    /// When that takes too long, with the end of its log.
    pub(crate) fn ready(&self, host: &str) -> anyhow::Result<()> {
        self.serves(host, &format!("http://{ADMIN}/healthz"), "ok", LOG)
    }

    /// Stops a node.
    ///
    /// # Errors
    /// When it does not stop, or not with status 0.
    pub(crate) fn stop_node(&mut self, host: &str) -> anyhow::Result<()> {
        let node = self.node(host)?.clone();
        let status = node.end(PATIENCE);
        self.state.forget(&node.what)?;
        let status = status?;
        ensure!(
            status == 0,
            "{} ended with status {status} when asked to stop",
            node.what
        );
        Ok(())
    }

    /// Lets a node read its configuration again, and waits until it says what came of it.
    ///
    /// # Errors
    /// When it says nothing.
    pub(crate) fn reload(&self, host: &str) -> anyhow::Result<Reload> {
        let (taken, kept) = (self.said(host, TAKEN)?, self.said(host, KEPT)?);
        self.node(host)?.signal(Signal::SIGHUP);
        let mut reload = None;
        wait_until(&format!("{host} tells of the reload"), PATIENCE, || {
            if self.said(host, TAKEN)? > taken {
                reload = Some(Reload::Taken);
            } else if self.said(host, KEPT)? > kept {
                reload = Some(Reload::Kept);
            }
            Ok(reload.is_some())
        })?;
        reload.context("no word of the reload")
    }

    /// How often a node told, since it was first started, that it kept the configuration it had.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub(crate) fn kept_configuration(&self, host: &str) -> anyhow::Result<usize> {
        self.said(host, KEPT)
    }

    /// The value of a counter of a node, by the name and labels that `/metrics` has; 0 if it is not there.
    ///
    /// # Errors
    /// When the node does not answer.
    pub(crate) fn counter(&self, host: &str, series: &str) -> anyhow::Result<u64> {
        Ok(self.metric(host, series)?.unwrap_or_default())
    }

    /// All counters and gauges of a node that are whole numbers, by their names and labels as `/metrics` has them.
    ///
    /// # Errors
    /// When the node does not answer.
    pub(crate) fn metrics(&self, host: &str) -> anyhow::Result<BTreeMap<String, u64>> {
        let text = self.exposition(host)?;
        let series = text.lines().filter_map(|line| line.rsplit_once(' '));
        Ok(series
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect())
    }

    /// As [`Lab::counter`], of anything that `/metrics` has.
    ///
    /// # Errors
    /// When the node does not answer.
    pub(crate) fn metric(&self, host: &str, series: &str) -> anyhow::Result<Option<u64>> {
        let text = self.exposition(host)?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(value.map(|value| value.trim().parse()).transpose()?)
    }

    /// `baton drain`, or back.
    ///
    /// # Errors
    /// When the node refuses.
    pub(crate) fn drain(&self, host: &str, away: bool) -> anyhow::Result<()> {
        let mut drain = self.netns(host).command(self.baton());
        drain.args(["drain", host]);
        if !away {
            drain.arg("--undo");
        }
        command::run(&mut drain).map(drop)
    }

    /// All that a node has said since it was first started.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub(crate) fn log(&self, host: &str) -> anyhow::Result<String> {
        let log = self.dir(host).join(LOG);
        fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))
    }

    /// The end of what a node has said.
    pub(crate) fn last_words(&self, host: &str) -> String {
        end_of(&self.dir(host).join(LOG))
    }

    fn exposition(&self, host: &str) -> anyhow::Result<String> {
        let mut curl = self.netns(host).command("curl");
        curl.args(["-q", "-sSf", "-m", "5", "--noproxy", "*"]);
        command::run(curl.arg(format!("http://{ADMIN}/metrics")))
    }

    /// Whether a node's program runs.
    pub(crate) fn runs(&self, host: &str) -> bool {
        self.node(host).is_ok_and(Process::alive)
    }

    /// What the kernel tells of a program that runs on a host, as /proc/PID/status does; `program` is the name of its log.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn process_status(&self, host: &str, program: &str) -> anyhow::Result<String> {
        let what = format!("{program} on {host}");
        let process = self.state.process(&what);
        process.with_context(|| format!("no {what} runs"))?.status()
    }

    pub(super) fn node(&self, host: &str) -> anyhow::Result<&Process> {
        let what = format!("baton on {host}");
        self.state
            .process(&what)
            .with_context(|| format!("no {what} runs"))
    }

    fn configuration_file(&self, host: &str) -> PathBuf {
        self.dir(host).join("baton.toml")
    }

    /// How many lines of a node's log, since it was first started, have these words.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub(crate) fn said(&self, host: &str, words: &str) -> anyhow::Result<usize> {
        let log = self.log(host)?;
        Ok(log.lines().filter(|line| line.contains(words)).count())
    }
}
