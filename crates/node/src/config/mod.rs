//! The configuration of a node: `docs/configuration.md` as types.
//!
//! A file is read in one pass that records every error ([`Report`]) and goes on; a [`Config`] exists only without any.
//! One file a section: [`node`], [`cluster`], [`proxy`], [`balancer`], [`backend`], [`relay`], [`vip`], [`server`], [`pool`], [`route`].

mod backend;
mod balancer;
mod check;
mod cluster;
mod node;
mod outline;
mod pool;
mod proxy;
mod reader;
mod relay;
mod report;
mod route;
mod secret;
mod server;
mod suggest;
#[cfg(test)]
mod tests;
mod values;
mod vip;

use std::hash::Hasher;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use baton_policy::{Cluster, Routes};
use baton_relay::Limits;
use siphasher::sip::SipHasher24;
use toml::de::DeTable;

pub use backend::{AccessLogFormat, AccessLogOptions, BackendOptions, Service};
pub use balancer::BalancerOptions;
pub use check::Check;
pub use cluster::{ClusterOptions, Peer, Replicas};
pub use node::{DEFAULT_ADMIN, LogFormat, Node, Roles};
pub use proxy::ProxyOptions;
pub use report::{Problem, Report};
pub use server::Server;
pub use vip::Vip;

use outline::Outline;
use reader::Section;
use report::Problems;

/// A configuration without errors. Places (`usize`, `PoolId`, `ServerId`) count the sections in the file's order.
#[derive(Debug, Clone)]
pub struct Config {
    /// This machine.
    pub node: Node,
    /// Of the part that is the same on all nodes: differs when that does.
    pub digest: u64,
    /// What is the same on all nodes.
    pub cluster: ClusterOptions,
    /// Options of the proxy role.
    pub proxy: ProxyOptions,
    /// Options of the balancer role.
    pub balancer: BalancerOptions,
    /// Options of the back-end role.
    pub backend: BackendOptions,
    /// Options of the user-space relay.
    pub relay: Limits,
    /// What clients connect to.
    pub vips: Vec<Vip>,
    /// The back ends; a [`ServerId`](baton_policy::ServerId) is a place here.
    pub servers: Vec<Server>,
    /// Routes and pools.
    pub policy: Arc<Cluster>,
    /// How each pool's servers are checked, if they are.
    pub checks: Vec<Option<Check>>,
}

/// Where a configuration is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Here: interfaces and the secret file are looked at.
    ThisMachine,
    /// On another machine: only the text is looked at.
    Elsewhere,
}

impl Config {
    /// Reads and checks a file.
    pub fn load(file: &Path, scope: Scope) -> Result<Self, Report> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            let help = "give the path of a TOML file that this user may read";
            Report::unreadable(file, format!("cannot be read: {error}"), help)
        })?;
        Self::parse(&text, file, scope)
    }

    /// Checks a text; `file` is what the report calls it, and relative paths in it are relative to that file.
    pub fn parse(text: &str, file: &Path, scope: Scope) -> Result<Self, Report> {
        let problems = Problems::new(text);
        let (root, syntax_errors) = DeTable::parse_recoverable(text);
        for error in &syntax_errors {
            let help =
                "correct the syntax (https://toml.io); the rest of the file is checked after that";
            let message = format!("not TOML: {}", error.message());
            problems.add(&error.span().unwrap_or(0..0), message, help);
        }
        if !syntax_errors.is_empty() {
            return Err(problems.into_report(file));
        }
        let outline = Outline::new(root.get_ref());
        let section = Section::new(
            root.get_ref(),
            root.span(),
            "the file".to_owned(),
            &problems,
        );
        let mut config = read(section, &outline, file, scope);
        if let Some(config) = &mut config {
            config.digest = digest(text);
        }
        if !problems.is_empty() {
            return Err(problems.into_report(file));
        }
        // Invariant of `reader`: what could not be read has been reported.
        config.ok_or_else(|| {
            Report::unreadable(
                file,
                "not understood".to_owned(),
                "report this as a bug of baton",
            )
        })
    }

    /// What the node at this address is called, and its role.
    pub fn name_of(&self, address: IpAddr) -> Option<(&str, &'static str)> {
        let peers = [
            (&self.cluster.proxies, "proxy"),
            (&self.cluster.balancers, "balancer"),
        ];
        for (peers, role) in peers {
            if let Some(peer) = peers.iter().find(|peer| peer.address == address) {
                return Some((&peer.name, role));
            }
        }
        let mut servers = self.servers.iter();
        let server = servers.find(|server| server.address == Some(address))?;
        Some((&server.name, "backend"))
    }

    /// Whether a role hands flows off, which needs privileges and BPF.
    pub fn needs_handoff(&self) -> bool {
        self.node.roles.backend
            || self.node.roles.balancer
            || (self.node.roles.proxy && self.vips.iter().any(|vip| vip.handoff))
    }
}

fn read(mut root: Section<'_>, outline: &Outline<'_>, file: &Path, scope: Scope) -> Option<Config> {
    let folder = file.parent().map_or(PathBuf::new(), Path::to_owned);

    let known: Vec<_> = numbered(root.tables("server", "[[server]]"))
        .map(|(place, section)| server::read(section, place, outline))
        .collect();
    let pools: Vec<_> = numbered(root.tables("pool", "[[pool]]"))
        .map(|(place, section)| pool::read(section, place, outline, &known))
        .collect();
    let (pools, checks): (Vec<_>, Vec<_>) = pools.into_iter().unzip();
    let mut taken = Vec::new();
    let vips: Vec<_> = numbered(root.tables("vip", "[[vip]]"))
        .map(|(place, section)| vip::read(section, place, outline, &mut taken))
        .collect();
    let routes: Vec<_> = root
        .tables("route", "[[route]]")
        .into_iter()
        .map(|section| route::read(section, outline))
        .collect();

    let relay = root.table("relay").map(relay::read).unwrap_or_default();
    let backend = root.table("backend");
    let backend = backend
        .map(|section| backend::read(section, outline, &vips, &folder))
        .unwrap_or_default();
    let cluster = root
        .table("cluster")
        .map(|section| cluster::read(section, outline))
        .unwrap_or_default();
    let proxy = proxy::read(root.table("proxy"), &cluster);
    let balancer = root
        .table("balancer")
        .map(balancer::read)
        .unwrap_or_default();
    if !root.has("node") {
        root.problem("missing section [node]", "add [node] with name and roles");
    }
    let node = root
        .table("node")
        .and_then(|section| node::read(section, scope, &folder, outline, &cluster));

    let vips: Vec<Vip> = vips.into_iter().collect::<Option<_>>()?;
    let defaults = vips.iter().map(|vip| vip.default_pool).collect();
    let routes = Routes::new(routes.into_iter().collect::<Option<_>>()?, defaults);
    // Fails only for places that do not exist; `outline` gives none.
    let policy = Cluster::new(pools.into_iter().collect::<Option<_>>()?, routes).ok()?;
    Some(Config {
        digest: 0,
        node: node?,
        cluster,
        proxy,
        balancer,
        backend,
        relay,
        servers: known
            .into_iter()
            .map(|known| known.server)
            .collect::<Option<_>>()?,
        vips,
        policy: Arc::new(policy),
        checks,
    })
}

/// Whatever the order of keys, and however it is written.
fn digest(text: &str) -> u64 {
    let mut hasher = SipHasher24::new();
    let root: toml::Table = text.parse().unwrap_or_default();
    for section in ["cluster", "vip", "server", "pool", "route"] {
        let value = root.get(section);
        hasher.write(format!("{section} {value:?};").as_bytes());
    }
    hasher.finish()
}

fn numbered<T>(sections: Vec<T>) -> impl Iterator<Item = (usize, T)> {
    sections.into_iter().enumerate()
}
