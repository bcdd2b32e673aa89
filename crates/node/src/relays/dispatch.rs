//! The relay's requests, decided by the configuration's routes and pools.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use baton_packet::RequestHead;
use baton_policy::{Mechanism, ServerId};
use baton_relay::{Choice, Dispatch};
use tokio::sync::watch;

use crate::checks::Checks;
use crate::config::{Config, Server};
use crate::health::{Board, Health, Use};

/// Chooses by the configuration in force at the moment of the request, so that a reload holds for the next one.
#[derive(Debug)]
pub struct ByPolicy {
    config: watch::Receiver<Arc<Config>>,
    health: Board,
    checks: Checks,
}

impl ByPolicy {
    /// Follows this configuration, and what is known of the servers.
    pub fn new(config: watch::Receiver<Arc<Config>>, health: Board, checks: Checks) -> Self {
        Self {
            config,
            health,
            checks,
        }
    }
}

impl Dispatch for ByPolicy {
    fn choose(&self, vip: SocketAddr, _client: SocketAddr, request: &RequestHead) -> Choice {
        let config = Arc::clone(&self.config.borrow());
        let health = Arc::clone(&self.health.borrow());
        choose(&config, &health, &self.checks, vip, request)
    }
}

fn choose(
    config: &Config,
    health: &Health,
    checks: &Checks,
    vip: SocketAddr,
    request: &RequestHead,
) -> Choice {
    let pool = vip_at(config, vip).and_then(|vip| config.policy.decide(vip, request));
    let Some((id, pool)) = pool else {
        return Choice::NoRoute;
    };
    let usable = |server| {
        let (server, address) = reachable(config, server)?;
        // Of other pools' servers the heartbeats tell nothing: they need no agent.
        let judged = server
            .address
            .filter(|_| pool.mechanism() == Mechanism::Handoff);
        let dead = |node| matches!(health.of(node, |at| *at == vip), Use::Nothing(_));
        let is_out = judged.is_some_and(dead) || checks.fails(address, id);
        (!is_out).then_some((server, address))
    };
    let chosen = pool.choose(None, |server| usable(server).is_none(), &mut rand::rng());
    match chosen.and_then(usable) {
        Some((server, address)) => Choice::Server {
            name: Arc::clone(&server.name),
            address,
        },
        None => Choice::NoServer,
    }
}

/// A server that a relay can reach. A handoff pool's may have no `http` address; such a pool's requests come here when
/// the proxy needs a TCP endpoint of its own.
fn reachable(config: &Config, ServerId(place): ServerId) -> Option<(&Server, SocketAddr)> {
    let server = config.servers.get(usize::from(place))?;
    Some((server, server.http?))
}

/// The VIP that a client reached at `address`.
fn vip_at(config: &Config, address: SocketAddr) -> Option<usize> {
    let at = |address: SocketAddr| {
        config
            .vips
            .iter()
            .position(|vip| vip.addresses.contains(&address))
    };
    let everywhere: IpAddr = match address {
        SocketAddr::V4(_) => [0; 4].into(),
        SocketAddr::V6(_) => [0u16; 8].into(),
    };
    at(address).or_else(|| at(SocketAddr::new(everywhere, address.port())))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Scope;

    const CONFIG: &str = r#"
[node]
name = "n"
roles = ["proxy"]
interfaces = ["eth0"]
address = "10.77.0.11"
secret_file = "s"
[[server]]
name = "s1"
http = "127.0.0.1:9001"
[[server]]
name = "s2"
http = "127.0.0.1:9002"
[[server]]
name = "unreachable"
address = "10.77.0.21"
[[pool]]
name = "both"
mechanism = "relay"
servers = ["s1", "s2"]
[[pool]]
name = "images"
mechanism = "relay"
servers = ["s2"]
[[pool]]
name = "handoff"
servers = ["unreachable"]
[[vip]]
name = "web"
addresses = ["127.0.0.1:80"]
default_pool = "both"
[[vip]]
name = "everywhere"
addresses = ["0.0.0.0:81", "[::]:81"]
[[vip]]
name = "fast"
addresses = ["10.77.0.10:80"]
[[route]]
vip = "fast"
pool = "handoff"
[[route]]
path_prefix = "/images/"
pool = "images"
"#;

    fn config() -> Arc<Config> {
        Arc::new(Config::parse(CONFIG, Path::new("baton.toml"), Scope::Elsewhere).unwrap())
    }

    fn at(config: &Config, vip: &str, path: &str) -> String {
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let Ok(baton_packet::Parsed::Complete(request)) = RequestHead::parse(head.as_bytes())
        else {
            panic!("{head}");
        };
        let (health, checks) = (Health::default(), Checks::default());
        match choose(config, &health, &checks, vip.parse().unwrap(), &request) {
            Choice::Server { name, address } => format!("{name} {address}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn routes_and_pools_decide() {
        let config = config();
        assert_eq!(
            at(&config, "127.0.0.1:80", "/images/x"),
            "s2 127.0.0.1:9002"
        );
        let turns: Vec<_> = (0..4).map(|_| at(&config, "127.0.0.1:80", "/")).collect();
        assert_eq!(turns[0], turns[2]);
        assert_eq!(turns[1], turns[3]);
        assert_ne!(turns[0], turns[1]);
    }

    #[test]
    fn a_vip_on_all_addresses_is_found_by_its_port() {
        let config = config();
        assert_eq!(
            at(&config, "192.0.2.1:81", "/images/x"),
            "s2 127.0.0.1:9002"
        );
        assert_eq!(
            at(&config, "[fd77::1]:81", "/images/x"),
            "s2 127.0.0.1:9002"
        );
        assert_eq!(
            at(&config, "192.0.2.1:81", "/"),
            "NoRoute",
            "no default pool"
        );
        assert_eq!(
            at(&config, "192.0.2.1:82", "/images/x"),
            "NoRoute",
            "no VIP there"
        );
    }

    #[test]
    fn a_server_without_http_address_is_not_chosen() {
        assert_eq!(at(&config(), "10.77.0.10:80", "/"), "NoServer");
    }

    #[test]
    fn a_reload_holds_for_the_next_request() {
        let (sender, receiver) = watch::channel(config());
        let dispatch = ByPolicy::new(receiver, crate::health::board(), Checks::default());
        let moved = CONFIG.replace("127.0.0.1:9002", "127.0.0.1:9003");
        let moved = Config::parse(&moved, Path::new("baton.toml"), Scope::Elsewhere).unwrap();
        sender.send_replace(Arc::new(moved));
        let config = Arc::clone(&dispatch.config.borrow());
        assert_eq!(
            at(&config, "127.0.0.1:80", "/images/x"),
            "s2 127.0.0.1:9003"
        );
    }
}
