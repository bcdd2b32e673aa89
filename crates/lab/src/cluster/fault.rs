//! What goes wrong on purpose: cables that carry nothing, programs that are killed or stand still.

use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use super::lab::Lab;
use crate::command;
use crate::topology::{Family, Host, INTERFACE};

/// The kernel ends a killed program within this time.
const PATIENCE: Duration = Duration::from_secs(15);
/// States of a bridge's port (if_link.h: BR_STATE_DISABLED, BR_STATE_FORWARDING).
const DISABLED: u8 = 0;
const FORWARDING: u8 = 3;

impl Lab {
    /// The switch forwards nothing from or to a host any more; the host's carrier stays, as behind a broken switch, and to all others it is
    /// as if its machine had stopped.
    ///
    /// # Errors
    /// When there is no such host.
    pub(crate) fn cut(&self, host: &str) -> anyhow::Result<()> {
        self.port_state(host, DISABLED)
    }

    /// # Errors
    /// When there is no such host.
    pub(crate) fn mend(&self, host: &str) -> anyhow::Result<()> {
        self.port_state(host, FORWARDING)
    }

    fn port_state(&self, host: &str, state: u8) -> anyhow::Result<()> {
        let mut bridge = self.netns("switch").command("bridge");
        let (port, state) = (format!("v-{host}"), state.to_string());
        command::run(bridge.args(["link", "set", "dev", &port, "state", &state])).map(drop)
    }

    /// `kill -9` of a host's `baton run`; [`Lab::launch`] starts it again.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn kill_node(&mut self, host: &str) -> anyhow::Result<()> {
        let node = self.node(host)?.clone();
        node.kill(PATIENCE)?;
        self.state.forget(&node.what)
    }

    /// A host's `baton run` ends, and what it has in the kernel goes on for the next one (SIGUSR2).
    ///
    /// # Errors
    /// When it does not end so.
    pub(crate) fn hand_over(&mut self, host: &str) -> anyhow::Result<()> {
        let node = self.node(host)?.clone();
        node.signal(Signal::SIGUSR2);
        let status = node.ended(PATIENCE);
        self.state.forget(&node.what)?;
        let status = status?;
        ensure!(status == 0, "{} ended with status {status}", node.what);
        Ok(())
    }

    /// What a node that does not run has left in the kernel goes, as when its machine starts anew.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) fn detach(&self, host: &str) -> anyhow::Result<()> {
        let mut detach = self.netns(host).command(self.baton());
        command::run(detach.args(["detach", host])).map(drop)
    }

    /// The program stands still (SIGSTOP); what it has loaded into the kernel does not.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn freeze_node(&self, host: &str) -> anyhow::Result<()> {
        self.node(host).map(|node| node.signal(Signal::SIGSTOP))
    }

    /// # Errors
    /// When it does not run.
    pub(crate) fn thaw_node(&self, host: &str) -> anyhow::Result<()> {
        self.node(host).map(|node| node.signal(Signal::SIGCONT))
    }

    /// The client's host spreads connections over these proxies, as a router with several next hops does.
    ///
    /// # Errors
    /// When its kernel refuses.
    pub(crate) fn spread_over(&self, proxies: &[&Host]) -> anyhow::Result<()> {
        let (client, family) = (self.netns("client"), self.options.family());
        let (option, version) = match family {
            Family::V4 => ("-4", "ipv4"),
            Family::V6 => ("-6", "ipv6"),
        };
        // By addresses and ports.
        client.sysctl(&format!("net.{version}.fib_multipath_hash_policy"), "1")?;
        let hops: String = proxies
            .iter()
            .map(|proxy| format!(" nexthop via {} dev {INTERFACE}", proxy.address(family)))
            .collect();
        let vip = family.vip().ip();
        client
            .ip(&format!("{option} route replace {vip}{hops}"))
            .context("no route over several next hops")?;
        Ok(())
    }
}
