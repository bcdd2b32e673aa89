//! Bringing a lab up: hosts, cables, servers, nodes, in this order; and taking it down.

use std::fs;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use super::baton::{ADMIN, SECRET, configuration};
use super::content::{self, Content, File};
use super::nginx::{self, ORIGIN_PORT};
use super::options::{Mechanism, Options};
use super::process::Process;
use super::requirements;
use super::state::State;
use super::wait::wait_until;
use crate::command;
use crate::link;
use crate::netns::Netns;
use crate::topology::{Family, HTTP_PORT, Host, INTERFACE, Kind, Topology};

/// Within this time a program has begun to serve, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of the file `unique` that is different on every back end.
const UNIQUE_BYTES: u64 = 65_536;

/// A lab that is up.
pub(crate) struct Lab {
    pub(crate) name: String,
    pub(crate) options: Options,
    pub(crate) topology: Topology,
    pub(crate) content: Content,
    state: State,
    baton: PathBuf,
}

impl Lab {
    /// Brings a lab up and waits until all in it serve. What was made before an error is removed.
    ///
    /// # Errors
    /// When something is missing on this machine, or something did not begin to serve, with its log.
    pub(crate) fn up(name: &str, options: Options, baton: &Path) -> anyhow::Result<Self> {
        requirements::check()?;
        let state = State::create(name)?;
        let content = match Content::create(state.dir().join("www"), options.seed) {
            Ok(content) => content,
            Err(error) => return Err(after_removing(&state, error)),
        };
        let topology = options.topology();
        let mut lab = Self {
            name: name.to_owned(),
            options,
            topology,
            content,
            state,
            baton: baton.to_owned(),
        };
        match lab.build() {
            Ok(()) => Ok(lab),
            Err(error) => Err(after_removing(&lab.state, error)),
        }
    }

    /// Removes a lab by name, whoever brought it up.
    ///
    /// # Errors
    /// When there is none, or something could not be removed.
    pub(crate) fn down(name: &str) -> anyhow::Result<()> {
        State::open(name)?.remove()
    }

    pub(crate) fn netns(&self, host: &str) -> Netns {
        netns(&self.name, host)
    }

    /// The namespace of a host of a lab that exists.
    ///
    /// # Errors
    /// When there is no such lab or host.
    pub(crate) fn host(lab: &str, host: &str) -> anyhow::Result<Netns> {
        State::open(lab)?;
        let netns = netns(lab, host);
        if !netns.path().exists() {
            bail!("lab {lab} has no host {host}; hosts are client, proxy1.., backend1..");
        }
        Ok(netns)
    }

    pub(crate) fn vip(&self) -> SocketAddr {
        self.options.family().vip()
    }

    /// Where a back end's nginx is reached without anything in between.
    pub(crate) fn direct(&self, backend: &str) -> anyhow::Result<SocketAddr> {
        let backends = self.topology.backends();
        let host = backends
            .iter()
            .find(|host| host.name == backend)
            .with_context(|| format!("there is no {backend}"))?;
        Ok(SocketAddr::new(
            host.address(self.options.family()),
            HTTP_PORT,
        ))
    }

    /// The `baton` program.
    pub(crate) fn baton(&self) -> &Path {
        &self.baton
    }

    /// Directory of a host's own files: configuration, logs, uploads.
    pub(crate) fn dir(&self, host: &str) -> PathBuf {
        self.state.dir().join(host)
    }

    /// The file `unique` of a back end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn unique(&self, backend: &str) -> anyhow::Result<File> {
        let path = self.dir(backend).join("unique");
        let (bytes, sha256) = content::digest(&mut fs::File::open(&path)?)?;
        Ok(File {
            path,
            bytes,
            sha256,
        })
    }

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

    fn build(&mut self) -> anyhow::Result<()> {
        self.cables()?;
        for host in self.topology.backends() {
            self.web_server(&host)?;
        }
        for host in self.topology.backends() {
            self.serves(
                &host.name,
                &format!("http://127.0.0.1:{HTTP_PORT}/whoami"),
                &host.name,
                "error.log",
            )?;
            self.prints("origin.log", &host.name)?;
        }
        let nodes = self.nodes();
        for host in &nodes {
            self.node(host)?;
        }
        for host in &nodes {
            self.serves(
                &host.name,
                &format!("http://{ADMIN}/healthz"),
                "ok",
                "baton.log",
            )?;
        }
        Ok(())
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
            let gap = link::plug(&switch, &netns, host, !faults.none())?;
            if let Some(rate) = self.options.link_rate {
                link::limit_rate(&switch, &netns, host, rate)?;
            }
            if let Some(gap) = gap {
                let seed = self
                    .options
                    .seed
                    .wrapping_mul(1_000)
                    .wrapping_add(2 * number as u64);
                let mut impair = switch.command(&self.baton);
                impair
                    .args(["lab", "impair", &gap.host_side, &gap.bridge_side])
                    .args(faults.arguments())
                    .arg(format!("--seed={seed}"));
                self.start(&host.name, "impair.log", &mut impair)?;
                self.prints("impair.log", &host.name)?;
            }
            // A measurement does not begin with what the one before it learned about the path.
            netns.sysctl("net.ipv4.tcp_no_metrics_save", "1")?;
            if host.kind == Kind::Client {
                netns.sysctl("net.ipv4.ip_local_port_range", "1024 65535")?;
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
            nginx::backend(host, &dir, self.content.root()),
        )?;
        self.start(
            &host.name,
            "nginx.log",
            &mut nginx_command(&netns, &dir, &configuration),
        )?;
        let mut origin = netns.command(&self.baton);
        origin.args([
            "lab",
            "origin",
            "--listen",
            &format!("127.0.0.1:{ORIGIN_PORT}"),
        ]);
        self.start(&host.name, "origin.log", &mut origin)
    }

    /// Hosts where `baton run` runs: without the agent a back end needs none.
    fn nodes(&self) -> Vec<Host> {
        let mut nodes = match self.options.mechanism {
            Mechanism::Handoff => self.topology.backends(),
            Mechanism::Relay => Vec::new(),
        };
        nodes.extend(self.topology.proxies());
        nodes
    }

    fn node(&mut self, host: &Host) -> anyhow::Result<()> {
        let dir = self.dir(&host.name);
        let netns = self.netns(&host.name);
        let first_proxy = host.name == "proxy1";
        match self.options.mechanism {
            Mechanism::Handoff => write_secret(&dir.join(SECRET), self.options.seed)?,
            Mechanism::Relay => take_vip(&netns, self.options.family(), first_proxy)?,
        }
        let file = dir.join("baton.toml");
        fs::write(&file, configuration(&self.options, host, first_proxy))?;
        let mut run = netns.command(&self.baton);
        run.arg("run").arg("--config").arg(&file);
        self.start(&host.name, "baton.log", &mut run)
    }

    /// Waits until a program of ours has said something: it does so when it has begun.
    fn prints(&self, log: &str, host: &str) -> anyhow::Result<()> {
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

/// A lab that goes down when it goes out of scope: also after an error, a panic or Ctrl-C.
pub(crate) struct RunningLab(Lab);

impl RunningLab {
    /// # Errors
    /// As [`Lab::up`].
    pub(crate) fn up(name: &str, options: Options, baton: &Path) -> anyhow::Result<Self> {
        Lab::up(name, options, baton).map(Self)
    }
}

impl Deref for RunningLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.0
    }
}

impl DerefMut for RunningLab {
    fn deref_mut(&mut self) -> &mut Lab {
        &mut self.0
    }
}

impl Drop for RunningLab {
    fn drop(&mut self) {
        if let Err(error) = self.0.state.remove() {
            eprintln!("not all of lab {} could be removed: {error:#}", self.0.name);
        }
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

fn netns(lab: &str, host: &str) -> Netns {
    Netns::new(format!("baton-{lab}-{host}"))
}

fn after_removing(state: &State, error: anyhow::Error) -> anyhow::Error {
    match state.remove() {
        Ok(()) => error,
        Err(left) => error.context(format!("and not all could be removed: {left:#}")),
    }
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

/// The last lines of a log, for an error.
fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
