//! Nodes' configuration files, as an operator would write them (docs/configuration.md).

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use super::{Mechanism, Options, POOLS};
use crate::topology::{Family, HTTP_PORT, Host, INTERFACE, Kind};

/// Name of the file with the cluster key, beside the configuration.
pub(crate) const SECRET: &str = "secret";
/// Where a node says how it is.
pub(crate) const ADMIN: &str = "127.0.0.1:9660";

/// The proxy that announces the VIP.
pub(crate) const FIRST_PROXY: &str = "proxy1";

/// The file of one node.
pub(crate) fn configuration(options: &Options, host: &Host) -> String {
    let mut text = node(options, host);
    if options.mechanism == Mechanism::Handoff {
        match host.kind {
            Kind::Proxy if host.name != FIRST_PROXY => text += "[proxy]\nannounce = false\n\n",
            Kind::Backend => {
                let loopback = if options.ipv6 { "[::1]" } else { "127.0.0.1" };
                let _ = writeln!(
                    text,
                    "[[backend.service]]\nvip = \"web\"\nlisten = \"{loopback}:{HTTP_PORT}\"\n"
                );
            }
            _ => {}
        }
    }
    text + &cluster(options)
}

fn node(options: &Options, host: &Host) -> String {
    let role = if host.kind == Kind::Backend {
        "backend"
    } else {
        "proxy"
    };
    let mut text = format!(
        "[node]\nname = \"{}\"\nroles = [\"{role}\"]\nadmin = \"{ADMIN}\"\n",
        host.name
    );
    if options.mechanism == Mechanism::Handoff {
        let address = node_address(options, host);
        let _ = writeln!(
            text,
            "interfaces = [\"{INTERFACE}\"]\naddress = \"{address}\"\nsecret_file = \"{SECRET}\""
        );
    }
    text + "\n"
}

/// Where the other nodes reach this one.
fn node_address(options: &Options, host: &Host) -> IpAddr {
    if options.routed && host.kind == Kind::Backend {
        host.routed_address(options.family())
    } else {
        host.address(options.family())
    }
}

/// The part that is the same on all nodes.
fn cluster(options: &Options) -> String {
    let family = options.family();
    let backends = options.topology().backends();
    let mut text = format!(
        "[[vip]]\nname = \"web\"\naddresses = [\"{}\"]\ndefault_pool = \"all\"\n",
        family.vip()
    );
    for backend in &backends {
        let _ = write!(text, "\n[[server]]\nname = \"{}\"\n", backend.name);
        let _ = writeln!(
            text,
            "address = \"{}\"\nhttp = \"{}\"",
            node_address(options, backend),
            http(backend, family)
        );
    }
    let names: Vec<&str> = backends
        .iter()
        .map(|backend| backend.name.as_str())
        .collect();
    pool(&mut text, options.mechanism, "all", &names);
    for (name, server) in POOLS.iter().zip(&names) {
        pool(&mut text, options.mechanism, name, &[server]);
    }
    for name in POOLS.iter().take(names.len()) {
        let _ = write!(
            text,
            "\n[[route]]\npath_prefix = \"/{name}/\"\npool = \"{name}\"\n"
        );
    }
    text
}

fn pool(text: &mut String, mechanism: Mechanism, name: &str, servers: &[&str]) {
    let servers: Vec<String> = servers
        .iter()
        .map(|server| format!("\"{server}\""))
        .collect();
    let _ = write!(
        text,
        "\n[[pool]]\nname = \"{name}\"\nmechanism = \"{}\"\nservers = [{}]\n",
        mechanism.name(),
        servers.join(", ")
    );
}

fn http(backend: &Host, family: Family) -> SocketAddr {
    SocketAddr::new(backend.address(family), HTTP_PORT)
}
