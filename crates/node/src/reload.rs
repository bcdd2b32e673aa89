//! What a reload can change in a running node, and what needs a restart.

use crate::config::Config;
use crate::roles::Role;

/// The keys that differ and take effect at the next start only.
pub(crate) fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let fixed = [
        ("[node] name", old.node.name != new.node.name),
        ("[node] roles", old.node.roles != new.node.roles),
        (
            "[node] interfaces",
            old.node.interfaces != new.node.interfaces,
        ),
        ("[node] address", old.node.address != new.node.address),
        ("[node] admin", old.node.admin != new.node.admin),
        (
            "[node] log_format",
            old.node.log_format != new.node.log_format,
        ),
        ("[cluster] port", old.cluster.port != new.cluster.port),
        ("[proxy] announce", old.proxy.announce != new.proxy.announce),
        (
            "[proxy] max_flows",
            old.proxy.max_flows != new.proxy.max_flows,
        ),
        (
            "[backend] max_flows",
            old.backend.max_flows != new.backend.max_flows,
        ),
        (
            "[backend] access_log (on or off)",
            old.backend.access_log.is_some() != new.backend.access_log.is_some(),
        ),
        (
            "the first VIP with (or without) handoff pools",
            old.node.roles == new.node.roles
                && Role::of(new)
                    .iter()
                    .any(|role| !Role::of(old).contains(role)),
        ),
    ];
    fixed
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(key, _)| key)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Scope;

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("baton.toml"), Scope::Elsewhere).unwrap()
    }

    const BEFORE: &str = r#"
node = { name = "n", roles = ["proxy"], interfaces = ["eth0"], address = "10.77.0.11", secret_file = "s" }
server = [{ name = "s", http = "127.0.0.1:1", address = "10.77.0.21" }]
pool = [
    { name = "r", mechanism = "relay", servers = ["s"] },
    { name = "h", servers = ["s"] },
]
vip = [{ name = "v", addresses = ["127.0.0.1:80"], default_pool = "r" }]
"#;

    #[test]
    fn routes_and_pools_change_at_once_and_the_rest_is_named() {
        let before = config(BEFORE);
        let changed = |from: &str, to: &str| {
            assert!(BEFORE.contains(from), "{from}");
            needs_restart(&before, &config(&BEFORE.replace(from, to)))
        };
        assert_eq!(changed("127.0.0.1:80", "127.0.0.1:81"), [""; 0]);
        assert_eq!(
            changed(
                "servers = [\"s\"]",
                "policy = \"weighted-random\", servers = [\"s\"]"
            ),
            [""; 0]
        );
        assert_eq!(changed("eth0", "eth1"), ["[node] interfaces"]);
        assert_eq!(
            changed("\"n\"", "\"m\", admin = \"\""),
            ["[node] name", "[node] admin"]
        );
        assert_eq!(
            changed("default_pool = \"r\"", "default_pool = \"h\""),
            ["the first VIP with (or without) handoff pools"]
        );
    }
}
