//! Who answers: two labs, one with nodes for `handoff`, one for all others, so that nothing of the first is in the others' way.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, anyhow, ensure};

use super::measure::bulk_bytes;
use super::workload::Ground;
use crate::client::{Expected, curl, url};
use crate::cluster::{Lab, Mechanism, RunningLab, haproxy, nginx_command, nginx_proxy};
use crate::report::Counts;
use crate::scenarios::{SERVERS, Setting};

const HAPROXY_PORT: u16 = 8081;
const NGINX_PORT: u16 = 8082;
/// Where all of them but `direct` run.
pub(super) const PROXY: &str = "proxy1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// The client speaks to backend1 itself.
    Direct,
    Handoff,
    Relay,
    Haproxy,
    Nginx,
}

impl System {
    pub(crate) const ALL: [Self; 5] = [
        Self::Direct,
        Self::Handoff,
        Self::Relay,
        Self::Haproxy,
        Self::Nginx,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Handoff => "handoff",
            Self::Relay => "relay",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }
}

/// The labs of systems. One that did not come up makes only its own systems fail.
pub(super) struct Systems {
    handoff: Result<RunningLab, String>,
    others: Result<RunningLab, String>,
}

/// Where a system is to be found.
pub(super) struct Place<'a> {
    pub(super) lab: &'a mut Lab,
    /// All that a client may ask. With something in between there is one, without all back ends, the first being the one for `/a/`.
    pub(super) addresses: Vec<SocketAddr>,
}

impl Place<'_> {
    pub(super) fn first(&self) -> SocketAddr {
        self.addresses[0]
    }
}

impl Systems {
    /// The labs that these need.
    pub(super) fn of(systems: &[System], ground: Ground, setting: &Setting<'_>) -> Self {
        let needed = |system| systems.contains(&system);
        let lab = |mechanism: Mechanism| {
            let (name, ground_name) = (mechanism.name(), ground.name());
            eprintln!("bringing up a lab: {ground_name}, {name}");
            let mut options = ground.options(&setting.options);
            options.mechanism = mechanism;
            let name = format!("compare-{}-{ground_name}-{name}", std::process::id());
            let lab = RunningLab::up(&name, options, setting.baton)?;
            lab.content.cache_sparse(bulk_bytes(setting.short))?;
            Ok(lab)
        };
        let handoff = || {
            ensure!(needed(System::Handoff), "it was not asked for");
            lab(Mechanism::Handoff)
        };
        let others = || {
            ensure!(systems != [System::Handoff], "it was not asked for");
            let mut lab = lab(Mechanism::Relay)?;
            if needed(System::Haproxy) {
                start_haproxy(&mut lab)?;
            }
            if needed(System::Nginx) {
                start_nginx(&mut lab)?;
            }
            Ok(lab)
        };
        let told = |error: anyhow::Error| format!("{error:#}");
        Self {
            handoff: handoff().map_err(told),
            others: others().map_err(told),
        }
    }

    /// The lab of a system and where the system listens in it.
    ///
    /// # Errors
    /// When the lab did not come up.
    pub(super) fn place(&mut self, system: System) -> anyhow::Result<Place<'_>> {
        let lab = if system == System::Handoff {
            &mut self.handoff
        } else {
            &mut self.others
        };
        let lab = lab
            .as_mut()
            .map_err(|error| anyhow!("the lab did not come up: {error}"))?;
        let addresses = match system {
            System::Direct => {
                let backends = lab.topology.backends();
                let addresses = backends.iter().map(|backend| lab.direct(&backend.name));
                addresses.collect::<anyhow::Result<_>>()?
            }
            System::Handoff | System::Relay => vec![lab.vip()],
            System::Haproxy => vec![proxy_address(lab, HAPROXY_PORT)?],
            System::Nginx => vec![proxy_address(lab, NGINX_PORT)?],
        };
        Ok(Place { lab, addresses })
    }

    /// # Errors
    /// When a file does not arrive as it is, from the right server.
    pub(super) fn right_bytes(
        &mut self,
        system: System,
        counts: &mut Counts,
    ) -> anyhow::Result<()> {
        let place = self.place(system)?;
        let (to, lab) = (place.first(), place.lab);
        let file = lab.content.file("20MB")?;
        let answer = curl(lab, &url(to, "/a/20MB"), &[]);
        counts
            .check(answer, &Expected::file(SERVERS[0], &file))
            .map(drop)
    }
}

fn start_haproxy(lab: &mut Lab) -> anyhow::Result<()> {
    let listen = proxy_address(lab, HAPROXY_PORT)?;
    let file = lab.dir(PROXY).join("haproxy.cfg");
    fs::write(
        &file,
        haproxy(listen, &lab.topology.backends(), lab.options.family()),
    )?;
    let mut command = lab.netns(PROXY).command("haproxy");
    lab.start(PROXY, "haproxy.log", command.arg("-db").arg("-f").arg(file))?;
    lab.serves(PROXY, &url(listen, "/a/whoami"), SERVERS[0], "haproxy.log")
}

/// Starts nginx as a proxy on `proxy1`; says where it listens.
///
/// # Errors
/// When it does not begin to serve.
pub(crate) fn start_nginx(lab: &mut Lab) -> anyhow::Result<SocketAddr> {
    let listen = proxy_address(lab, NGINX_PORT)?;
    let dir = lab.dir(PROXY);
    let file = dir.join("nginx.conf");
    fs::write(
        &file,
        nginx_proxy(&dir, listen, &lab.topology.backends(), lab.options.family()),
    )?;
    lab.start(
        PROXY,
        "nginx.log",
        &mut nginx_command(&lab.netns(PROXY), &dir, &file),
    )?;
    lab.serves(PROXY, &url(listen, "/a/whoami"), SERVERS[0], "error.log")?;
    Ok(listen)
}

fn proxy_address(lab: &Lab, port: u16) -> anyhow::Result<SocketAddr> {
    let proxies = lab.topology.proxies();
    let proxy = proxies.first().context("there is no proxy")?;
    Ok(SocketAddr::new(proxy.address(lab.options.family()), port))
}
