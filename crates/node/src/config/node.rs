//! `[node]`: this machine.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use baton_wire::Secrets;

use super::Scope;
use super::cluster::{ClusterOptions, Peer};
use super::outline::{Names, Outline};
use super::reader::{Item, Section};
use super::secret;
use super::values::{ip_address, list, one_of, string};

/// This machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Unique in the cluster.
    pub name: String,
    /// What the node does.
    pub roles: Roles,
    /// Interfaces that the node's programs attach to; the first announces VIPs.
    pub interfaces: Vec<String>,
    /// Where the other nodes reach this one. There when a role hands flows off.
    pub address: Option<IpAddr>,
    /// The cluster's keys. There when a role hands flows off, except in a check for another machine.
    pub secrets: Option<Secrets>,
    /// Address of metrics, status and liveness; `None` switches it off.
    pub admin: Option<SocketAddr>,
    /// Least severe level that is logged.
    pub log: tracing::Level,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Answers clients, reads requests, binds flows.
    pub proxy: bool,
    /// Spreads clients' packets over proxies.
    pub balancer: bool,
    /// Adopts flows for a web server of this machine.
    pub backend: bool,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The address of metrics when the file names none.
pub const DEFAULT_ADMIN: SocketAddr =
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9660);

const LEVELS: [(&str, tracing::Level); 5] = [
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];

pub(super) fn read(
    mut section: Section<'_>,
    scope: Scope,
    folder: &Path,
    outline: &Outline<'_>,
    cluster: &ClusterOptions,
) -> Option<Node> {
    let name = section.required("name", "\"proxy1\"", string);
    let roles = section.required("roles", "[\"proxy\"]", |item| roles(item, outline));
    if let Some((name, roles)) = name.as_deref().zip(roles) {
        if roles.proxy && outline.proxies.count() > 0 {
            check_place(&section, name, "proxy", &outline.proxies, &cluster.proxies);
        }
        if roles.balancer {
            check_place(
                &section,
                name,
                "balancer",
                &outline.balancers,
                &cluster.balancers,
            );
        }
    }
    let interfaces = section.optional("interfaces", |item| {
        list(item, "\"eth0\"", |name| interface(name, scope))
    });
    let address = section.optional("address", ip_address);
    let secrets = section.optional("secret_file", |item| secret::read(item, scope, folder));
    let admin = section.or("admin", Some(DEFAULT_ADMIN), admin);
    let log = section.or("log", tracing::Level::INFO, one_of(&LEVELS));
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let log_format = section.or("log_format", LogFormat::Text, one_of(&formats));

    if let Some(reason) = roles.and_then(|roles| needs_handoff(roles, outline)) {
        let needed = [
            ("interfaces", "[\"eth0\"]"),
            ("address", "\"10.77.0.11\""),
            ("secret_file", "\"secret\""),
        ];
        for (key, example) in needed {
            if !section.has(key) {
                section.missing(key, example, format_args!(": {reason}"));
            }
        }
    }
    Some(Node {
        name: name?,
        roles: roles?,
        interfaces: interfaces.unwrap_or_default(),
        address,
        secrets: secrets.flatten(),
        admin,
        log,
        log_format,
    })
}

/// Whether the cluster knows this node in this role.
fn check_place(section: &Section<'_>, name: &str, role: &str, names: &Names<'_>, peers: &[Peer]) {
    if names.place(name).is_none() {
        section.problem_at(
            "name",
            format_args!("no [[cluster.{role}]] is called \"{name}\", and this is a {role}"),
            format!("add a [[cluster.{role}]] with name = \"{name}\""),
        );
    }
    let listed = peers.iter().find(|peer| peer.name == name);
    let own = section.text("address").and_then(|own| own.parse().ok());
    if let Some(peer) = listed.filter(|peer| own.is_some_and(|own: IpAddr| own != peer.address)) {
        section.problem_at(
            "address",
            format_args!("[[cluster.{role}]] \"{name}\" has {}", peer.address),
            "write the same address in both",
        );
    }
}

/// What the file calls the roles.
const ROLES: [(&str, &str); 3] = [
    ("proxy", "proxy"),
    ("balancer", "balancer"),
    ("backend", "backend"),
];

fn roles(item: &Item<'_>, outline: &Outline<'_>) -> Option<Roles> {
    let names = list(item, "\"proxy\"", one_of(&ROLES))?;
    let roles = Roles {
        proxy: names.contains(&"proxy"),
        balancer: names.contains(&"balancer"),
        backend: names.contains(&"backend"),
    };
    if roles.proxy && outline.vips.count() == 0 {
        item.wrong::<()>(
            "role \"proxy\" has no [[vip]]",
            "add a [[vip]] with name and addresses",
        );
    }
    let hands_off = || (0..outline.vips.count()).any(|vip| outline.handoff_pool(vip).is_some());
    if roles.proxy && roles.backend && hands_off() {
        item.wrong::<()>(
            "a node cannot yet be \"proxy\" of handoff pools and \"backend\" at once",
            "run the two roles on two machines (or network namespaces)",
        );
    }
    if roles.balancer {
        balancer(item, roles, outline);
    }
    if roles.backend && outline.services == 0 {
        item.wrong::<()>(
            "role \"backend\" has no [[backend.service]]",
            "add a [[backend.service]] with vip and listen",
        );
    }
    Some(roles)
}

/// What a balancer cannot do without, and beside.
fn balancer(item: &Item<'_>, roles: Roles, outline: &Outline<'_>) {
    if roles.proxy || roles.backend {
        item.wrong::<()>(
            "a \"balancer\" has no other role",
            "run the other roles on other machines (or network namespaces)",
        );
    }
    if outline.vips.count() == 0 {
        item.wrong::<()>(
            "role \"balancer\" has no [[vip]]",
            "add a [[vip]] with name and addresses",
        );
    }
    if outline.proxies.count() == 0 {
        item.wrong::<()>(
            "role \"balancer\" has no [[cluster.proxy]]",
            "add one for each proxy, with its name and address",
        );
    }
}

/// Why the node needs what only handoff needs; `None` when it does not.
fn needs_handoff(roles: Roles, outline: &Outline<'_>) -> Option<String> {
    if roles.backend {
        return Some("role \"backend\" needs it".to_owned());
    }
    if roles.balancer {
        return Some("role \"balancer\" needs it".to_owned());
    }
    let pool = (0..outline.vips.count()).find_map(|vip| outline.handoff_pool(vip))?;
    roles
        .proxy
        .then(|| format!("handoff pool \"{pool}\" needs it"))
}

/// A network interface, which must exist when the file is for this machine.
fn interface(item: &Item<'_>, scope: Scope) -> Option<String> {
    let name = string(item)?;
    if scope == Scope::Elsewhere || nix::net::if_::if_nametoindex(name.as_str()).is_ok() {
        return Some(name);
    }
    let present: Vec<_> = nix::net::if_::if_nameindex()
        .map(|all| {
            all.iter()
                .map(|each| each.name().to_string_lossy().into_owned())
                .collect()
        })
        .unwrap_or_default();
    item.wrong(
        format_args!("this machine has no interface \"{name}\""),
        format!(
            "name one of {}, or use `baton check --offline` if the file is for another machine",
            present.join(", ")
        ),
    )
}

/// An address with port, or `""` for none.
fn admin(item: &Item<'_>) -> Option<Option<SocketAddr>> {
    if item.value().as_str() == Some("") {
        return Some(None);
    }
    super::values::socket_address(item).map(Some)
}
