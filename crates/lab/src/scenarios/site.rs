//! A lab that comes up when the first case needs it, and the client's TCP on it.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::anyhow;

use crate::cluster::{Options, RunningLab};

/// Settings of the client's TCP that a variant may switch off.
const SETTINGS: [&str; 3] = ["tcp_timestamps", "tcp_window_scaling", "tcp_sack"];

/// What the client's TCP does without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientTcp {
    pub(crate) name: &'static str,
    off: &'static [&'static str],
}

pub(crate) const ALL_ON: ClientTcp = ClientTcp {
    name: "all-on",
    off: &[],
};
pub(crate) const NO_TIMESTAMPS: ClientTcp = ClientTcp {
    name: "no-timestamps",
    off: &["tcp_timestamps"],
};
pub(crate) const NO_WINDOW_SCALING: ClientTcp = ClientTcp {
    name: "no-window-scaling",
    off: &["tcp_window_scaling"],
};
pub(crate) const NO_SACK: ClientTcp = ClientTcp {
    name: "no-sack",
    off: &["tcp_sack"],
};
pub(crate) const ALL_OFF: ClientTcp = ClientTcp {
    name: "none-of-three",
    off: &SETTINGS,
};

impl ClientTcp {
    /// Timestamps, window scaling and SACK in all combinations.
    pub(crate) fn all() -> [Self; 8] {
        let only = |name, off| Self { name, off };
        [
            ALL_ON,
            NO_TIMESTAMPS,
            NO_WINDOW_SCALING,
            NO_SACK,
            only("only-timestamps", &["tcp_window_scaling", "tcp_sack"]),
            only("only-window-scaling", &["tcp_timestamps", "tcp_sack"]),
            only("only-sack", &["tcp_timestamps", "tcp_window_scaling"]),
            ALL_OFF,
        ]
    }
}

pub(crate) struct Site<'a> {
    options: Options,
    baton: &'a Path,
    lab: Option<Result<RunningLab, String>>,
    tcp: ClientTcp,
}

impl<'a> Site<'a> {
    pub(crate) fn new(options: Options, baton: &'a Path) -> Self {
        Self {
            options,
            baton,
            lab: None,
            tcp: ALL_ON,
        }
    }

    /// The lab, with the client's TCP as asked for.
    ///
    /// # Errors
    /// When it does not come up; then it is not tried again.
    pub(crate) fn lab(&mut self, tcp: ClientTcp) -> anyhow::Result<&mut RunningLab> {
        let lab = self.lab.get_or_insert_with(|| {
            let name = unique_name();
            let Options {
                mechanism,
                ipv6,
                faults,
                ..
            } = &self.options;
            let family = if *ipv6 { "IPv6" } else { "IPv4" };
            eprintln!(
                "bringing up a lab: {}, {family}, {:?} one way",
                mechanism.name(),
                faults.delay
            );
            RunningLab::up(&name, self.options.clone(), self.baton)
                .map_err(|error| format!("{error:#}"))
        });
        let lab = lab
            .as_mut()
            .map_err(|error| anyhow!("the lab did not come up: {error}"))?;
        if self.tcp != tcp {
            for setting in SETTINGS {
                let value = if tcp.off.contains(&setting) { "0" } else { "1" };
                lab.netns("client")
                    .sysctl(&format!("net.ipv4.{setting}"), value)?;
            }
            self.tcp = tcp;
        }
        Ok(lab)
    }
}

/// A name for a lab that no other has.
pub(super) fn unique_name() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    format!(
        "run-{}-{}",
        std::process::id(),
        MADE.fetch_add(1, Ordering::Relaxed)
    )
}
