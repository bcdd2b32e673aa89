//! Balancers, and proxies behind them.

use std::path::Path;

use baton_kernel::Mode;

use crate::config::{Config, Report, Scope};
use crate::roles::Role;

const CLUSTER: &str = r#"
[[cluster.balancer]]
name = "balancer1"
address = "10.77.0.5"
[[cluster.proxy]]
name = "proxy1"
address = "10.77.0.11"
[[vip]]
name = "web"
addresses = ["10.77.0.10:80"]
default_pool = "pages"
[[server]]
name = "backend1"
address = "10.77.0.21"
[[pool]]
name = "pages"
servers = ["backend1"]
"#;

fn node(name: &str, role: &str, address: &str, more: &str) -> Result<Config, Report> {
    let node = format!(
        "[node]\nname = \"{name}\"\nroles = [\"{role}\"]\ninterfaces = [\"eth0\"]\naddress = \"{address}\"\nsecret_file = \"secret\"\n"
    );
    let text = format!("{node}{more}{CLUSTER}");
    Config::parse(&text, Path::new("baton.toml"), Scope::Elsewhere)
}

#[test]
fn a_balancer_spreads_by_flow_unless_told_otherwise() {
    let balancer = |more| node("balancer1", "balancer", "10.77.0.5", more).unwrap();
    let config = balancer("");
    assert_eq!(Role::of(&config), [Role::Balancer]);
    assert!(config.needs_handoff());
    assert_eq!(
        (config.balancer.mode, config.balancer.batch_packets),
        (Mode::Flow, 40)
    );
    let config = balancer("[balancer]\nmode = \"batch\"\nbatch_packets = 7\n");
    assert_eq!(
        (config.balancer.mode, config.balancer.batch_packets),
        (Mode::Batch, 7)
    );
}

#[test]
fn behind_balancers_a_proxy_announces_nothing() {
    let proxy = |more| node("proxy1", "proxy", "10.77.0.11", more);
    assert!(!proxy("").unwrap().proxy.announce);
    assert!(!proxy("[proxy]\nmax_flows = 5\n").unwrap().proxy.announce);
    let report = proxy("[proxy]\nannounce = true\n").unwrap_err();
    assert!(
        report.to_string().contains("at a [[cluster.balancer]]"),
        "{report}"
    );
}

#[test]
fn a_balancer_has_the_address_that_the_cluster_knows() {
    let report = node("balancer1", "balancer", "10.77.0.6", "").unwrap_err();
    assert_eq!(
        (report.errors.len(), report.errors[0].line),
        (1, 5),
        "{report}"
    );
}
