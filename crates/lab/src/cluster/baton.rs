//! Nodes' configuration files, as an operator would write them (docs/configuration.md).

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use super::{Mechanism, Options, POOLS};
use crate::topology::{Family, HTTP_PORT, Host, INTERFACE, Kind};

/// Name of the file with the cluster key, beside the configuration.
pub(crate) const SECRET: &str = "secret";
/// Where a node says how it is.
pub(crate) const ADMIN: &str = "127.0.0.1:9660";

/// The proxy that announces the VIP where it is alone.
pub(crate) const FIRST_PROXY: &str = "proxy1";

/// The file of one node.
pub(crate) fn configuration(options: &Options, host: &Host) -> String {
    let mut text = node(options, host);
    if options.mechanism == Mechanism::Handoff {
        match host.kind {
            Kind::Proxy if options.shared() => text += "[proxy]\nannounce = false\n\n",
            Kind::Balancer => {
                let _ = writeln!(text, "[balancer]\nmode = \"{}\"\n", options.balance.name());
            }
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
    let role = match host.kind {
        Kind::Backend => "backend",
        Kind::Balancer => "balancer",
        Kind::Proxy | Kind::Client => "proxy",
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
    let mut text = members(options);
    let _ = write!(
        text,
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

/// The nodes that share what clients send, and how often all say that they are there.
fn members(options: &Options) -> String {
    let mut text = String::new();
    if let Some(heartbeat) = options.heartbeat {
        let ms = heartbeat.as_millis();
        let _ = writeln!(text, "[cluster]\nheartbeat_interval_ms = {ms}\n");
    }
    if options.shared() {
        let topology = options.topology();
        for (kind, hosts) in [
            ("proxy", topology.proxies()),
            ("balancer", topology.balancers()),
        ] {
            for host in hosts {
                let (name, address) = (&host.name, node_address(options, &host));
                let _ = writeln!(
                    text,
                    "[[cluster.{kind}]]\nname = \"{name}\"\naddress = \"{address}\"\n"
                );
            }
        }
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        options: Options,
    }

    fn files(arguments: &str) -> Vec<(String, String)> {
        let words = std::iter::once("up").chain(arguments.split_whitespace());
        let options = CommandLine::try_parse_from(words).unwrap().options;
        let hosts = options.topology().servers();
        hosts
            .iter()
            .map(|host| (host.name.clone(), configuration(&options, host)))
            .collect()
    }

    #[test]
    fn one_proxy_alone_is_told_nothing_of_others() {
        for (name, text) in files("") {
            assert!(
                !text.contains("[[cluster.") && !text.contains("announce"),
                "{name}: {text}"
            );
        }
    }

    #[test]
    fn all_nodes_know_the_proxies_and_balancers() {
        let files = files("--proxies 2 --balancers 1 --balance batch --heartbeat 50ms");
        assert_eq!(files.len(), 1 + 2 + 3);
        for (name, text) in &files {
            for part in [
                "heartbeat_interval_ms = 50\n",
                "[[cluster.proxy]]\nname = \"proxy2\"\naddress = \"10.77.0.12\"\n",
                "[[cluster.balancer]]\nname = \"balancer1\"\naddress = \"10.77.0.5\"\n",
            ] {
                assert!(text.contains(part), "{name}: {text}");
            }
            let balancer = name == "balancer1";
            assert_eq!(text.contains("mode = \"batch\""), balancer, "{name}");
            assert_eq!(text.contains("roles = [\"balancer\"]"), balancer, "{name}");
            assert_eq!(
                text.contains("announce = false"),
                name.starts_with("proxy"),
                "{name}"
            );
        }
    }
}
