//! The steps of bringing a lab up: cables, servers, nodes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use super::baton::{FIRST_PROXY, SECRET};
use super::content;
use super::lab::Lab;
use super::nginx::{self, ORIGIN_PORT};
use super::options::Mechanism;
use crate::impair::{Faults, Tap};
use crate::link::{self, Gap};
use crate::netns::Netns;
use crate::topology::{Family, HTTP_PORT, Host, INTERFACE, Kind};

/// A web server that is asked to end does so within this time.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of the file `unique` that is different on every back end.
const UNIQUE_BYTES: u64 = 65_536;

impl Lab {
    pub(super) fn build(&mut self) -> anyhow::Result<()> {
        self.cables()?;
        if self.options.routed {
            self.other_network()?;
        }
        if self.options.spread_by_client() {
            let proxies = self.topology.proxies();
            self.spread_over(&proxies.iter().collect::<Vec<_>>())?;
        }
        for host in self.topology.backends() {
            self.web_server(&host)?;
        }
        for host in self.topology.backends() {
            self.web_server_serves(&host.name)?;
            self.prints("origin.log", &host.name)?;
        }
        let nodes = self.nodes();
        for host in &nodes {
            self.prepare(host)?;
            self.launch(&host.name)?;
        }
        nodes.iter().try_for_each(|host| self.ready(&host.name))
    }

    fn cables(&mut self) -> anyhow::Result<()> {
        let switch = self.netns("switch");
        self.state.make_namespace(&switch)?;
        link::make_switch(&switch)?;
        for (number, host) in self.topology.hosts().iter().enumerate() {
            let netns = self.netns(&host.name);
            self.state.make_namespace(&netns)?;
            fs::create_dir(self.dir(&host.name))?;
            let faults = if host.kind == Kind::Client {
                self.options.faults
            } else {
                self.options.faults.without_delay()
            };
            let tapped = self.options.tapped.contains(&host.name.as_str());
            let gap = link::plug(&switch, &netns, host, tapped || !faults.none())?;
            if let Some(rate) = self.options.rate_of(host.kind) {
                link::limit_rate(&switch, &netns, host, rate)?;
            }
            if let Some(gap) = gap {
                let seed = self
                    .options
                    .seed
                    .wrapping_mul(1_000)
                    .wrapping_add(2 * number as u64);
                if tapped {
                    let tap = Tap::start(&switch, &gap, faults, seed)?;
                    self.taps.insert(host.name.clone(), tap);
                } else {
                    self.impair(&host.name, &gap, faults, seed)?;
                }
            }
            // A measurement does not begin with what the one before it learned about the path.
            netns.sysctl("net.ipv4.tcp_no_metrics_save", "1")?;
            if host.kind == Kind::Client {
                netns.sysctl("net.ipv4.ip_local_port_range", "1024 65535")?;
            }
        }
        Ok(())
    }

    fn impair(&mut self, host: &str, gap: &Gap, faults: Faults, seed: u64) -> anyhow::Result<()> {
        let mut impair = self.netns("switch").command(self.baton());
        impair
            .args(["lab", "impair", &gap.host_side, &gap.bridge_side])
            .args(faults.arguments())
            .arg(format!("--seed={seed}"));
        self.start(host, "impair.log", &mut impair)?;
        self.prints("impair.log", host)
    }

    /// Back ends have an address of another network too, to which proxies have a route.
    fn other_network(&self) -> anyhow::Result<()> {
        let family = self.options.family();
        let prefix = family.host_prefix();
        for backend in self.topology.backends() {
            let (address, by) = (backend.routed_address(family), backend.address(family));
            self.netns(&backend.name)
                .ip(&format!("address add {address}/{prefix} dev {INTERFACE}"))?;
            for proxy in self.topology.proxies() {
                self.netns(&proxy.name)
                    .ip(&format!("route add {address}/{prefix} via {by}"))?;
            }
        }
        Ok(())
    }

    fn web_server(&mut self, host: &Host) -> anyhow::Result<()> {
        let dir = self.dir(&host.name);
        let netns = self.netns(&host.name);
        content::generate(
            &dir.join("unique"),
            UNIQUE_BYTES,
            self.options.seed ^ u64::from(host.v4().to_bits()),
        )?;
        let configuration = dir.join("nginx.conf");
        fs::write(
            &configuration,
            nginx::backend(host, &dir, self.content.root(), self.options.measured),
        )?;
        self.start_nginx(&host.name)?;
        let mut origin = netns.command(self.baton());
        origin.args([
            "lab",
            "origin",
            "--listen",
            &format!("127.0.0.1:{ORIGIN_PORT}"),
        ]);
        self.start(&host.name, "origin.log", &mut origin)
    }

    fn start_nginx(&mut self, host: &str) -> anyhow::Result<()> {
        let (netns, dir) = (self.netns(host), self.dir(host));
        let mut nginx = nginx_command(&netns, &dir, &dir.join("nginx.conf"));
        self.start(host, "nginx.log", &mut nginx)
    }

    /// Ends a back end's nginx, which closes its connections, and starts another.
    ///
    /// # Errors
    /// When it does not end, or does not begin to serve.
    pub(crate) fn restart_web_server(&mut self, host: &str) -> anyhow::Result<()> {
        let what = format!("nginx on {host}");
        let nginx = self.state.process(&what).cloned();
        nginx
            .with_context(|| format!("no {what} runs"))?
            .end(PATIENCE)?;
        self.state.forget(&what)?;
        self.start_nginx(host)?;
        self.web_server_serves(host)
    }

    fn web_server_serves(&self, host: &str) -> anyhow::Result<()> {
        let at = format!("http://127.0.0.1:{HTTP_PORT}/whoami");
        self.serves(host, &at, host, "error.log")
    }

    /// All that a node needs to run.
    fn prepare(&self, host: &Host) -> anyhow::Result<()> {
        match self.options.mechanism {
            Mechanism::Handoff => {
                write_secret(&self.dir(&host.name).join(SECRET), self.options.seed)?;
            }
            Mechanism::Relay => take_vip(
                &self.netns(&host.name),
                self.options.family(),
                host.name == FIRST_PROXY,
            )?,
        }
        self.write_configuration(&host.name, &self.configuration(&host.name)?)
    }
}

/// nginx in the foreground with all its files in `dir`.
pub(crate) fn nginx_command(netns: &Netns, dir: &Path, configuration: &Path) -> Command {
    let mut nginx = netns.command("nginx");
    nginx
        .arg("-e")
        .arg(dir.join("error.log"))
        .arg("-p")
        .arg(dir)
        .arg("-c")
        .arg(configuration);
    nginx
}

/// Two numbers of 16 bytes, the same on all nodes of a lab; it guards nothing but the lab.
fn write_secret(path: &Path, seed: u64) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{}", content::digest_of(&seed.to_be_bytes()))?;
    Ok(())
}

/// A relay listens as any program does: its host must have the address.
fn take_vip(netns: &Netns, family: Family, announce: bool) -> anyhow::Result<()> {
    let interface = if announce { INTERFACE } else { "lo" };
    if !announce {
        netns.sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
        netns.sysctl("net.ipv4.conf.all.arp_announce", "2")?;
    }
    let nodad = if family == Family::V6 { "nodad" } else { "" };
    netns
        .ip(&format!(
            "address add {}/{} dev {interface} {nodad}",
            family.vip().ip(),
            family.host_prefix()
        ))
        .map(drop)
}
