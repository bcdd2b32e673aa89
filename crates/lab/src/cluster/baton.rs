//! Nodes' configuration files, as an operator would write them (docs/configuration.md).

use std::fmt::Write;

use super::{Mechanism, Options, POOLS};
use crate::topology::{Family, HTTP_PORT, Host, INTERFACE, Kind};

/// Name of the file with the cluster key, beside the configuration.
pub(crate) const SECRET: &str = "secret";
/// Where a node says how it is.
pub(crate) const ADMIN: &str = "127.0.0.1:9660";

/// The file of one node. `first_proxy`: this one announces the VIP.
pub(crate) fn configuration(options: &Options, host: &Host, first_proxy: bool) -> String {
    let mut text = node(options, host);
    if options.mechanism == Mechanism::Handoff {
        match host.kind {
            Kind::Proxy if !first_proxy => text += "[proxy]\nannounce = false\n\n",
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
        let address = host.address(options.family());
        let _ = writeln!(
            text,
            "interfaces = [\"{INTERFACE}\"]\naddress = \"{address}\"\nsecret_file = \"{SECRET}\""
        );
    }
    text + "\n"
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
            backend.address(family),
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

fn http(backend: &Host, family: Family) -> std::net::SocketAddr {
    std::net::SocketAddr::new(backend.address(family), HTTP_PORT)
}
