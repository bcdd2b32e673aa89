//! `docs/configuration.md` and the parser say the same: example, keys, what is required, defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use baton_policy::{Mechanism, ServerId};

use crate::config::{Config, LogFormat, Replicas, Report, Scope};

const DOCS: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../docs/configuration.md"
));

fn parse(text: &str) -> Result<Config, Report> {
    Config::parse(text, Path::new("baton.toml"), Scope::Elsewhere)
}

/// A row of one of the docs' tables.
struct Row {
    /// `[node]`, `[[vip]]`, ...
    section: String,
    key: String,
    default: String,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut heading = "";
    for line in DOCS.lines() {
        if let Some(title) = line.strip_prefix("## `") {
            heading = title.split('`').next().unwrap();
        }
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let ["", key, .., default, ""] = cells[..] else {
            continue;
        };
        let names: Vec<_> = key
            .split('`')
            .filter(|part| !part.trim().is_empty())
            .collect();
        let (section, key) = match names[..] {
            [key] if key != "key" && !key.starts_with('-') => (heading, key),
            [section, key] => (section, key),
            _ => continue,
        };
        rows.push(Row {
            section: section.to_owned(),
            key: key.to_owned(),
            default: default.trim_matches('`').to_owned(),
        });
    }
    assert!(rows.len() > 40, "only {} rows found", rows.len());
    rows
}

/// The report of a file that has every section, each with nothing but an unknown key.
fn report_of_nothing() -> Report {
    let sections: BTreeSet<_> = rows().into_iter().map(|row| row.section).collect();
    let file: String = sections
        .iter()
        .map(|section| format!("{section}\nxyzxyzxyz = 1\n"))
        .collect();
    parse(&file).unwrap_err()
}

/// `[[vip]] number 1` is a `[[vip]]`.
fn section_of(place: &str) -> &str {
    place.strip_suffix(" number 1").unwrap_or(place)
}

#[test]
fn the_example_is_right() {
    let example = DOCS
        .split("```toml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let config = parse(example).unwrap();
    assert_eq!(config.node.name, "proxy1");
    assert!(config.node.roles.proxy && !config.node.roles.backend);
    assert_eq!(config.node.interfaces, ["eth0"]);
    assert_eq!(
        config.vips[0].addresses[1],
        "[fd77::10]:80".parse().unwrap()
    );
    assert!(config.vips[0].handoff && config.needs_handoff());
    assert_eq!(
        config.servers[1].address,
        Some("10.77.0.22".parse().unwrap())
    );
    let [pool] = config.policy.pools() else {
        panic!("{:?}", config.policy)
    };
    assert_eq!(
        (pool.name(), pool.mechanism()),
        ("pages", Mechanism::Handoff)
    );
    let members: Vec<_> = pool
        .members()
        .iter()
        .map(|member| (member.server, member.weight))
        .collect();
    assert_eq!(members, [(ServerId(0), 1), (ServerId(1), 3)]);
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    let mut documented: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows() {
        documented.entry(row.section).or_default().insert(row.key);
    }
    documented
        .get_mut("[[pool]]")
        .unwrap()
        .insert("check".to_owned());
    documented
        .get_mut("[backend]")
        .unwrap()
        .insert("service".to_owned());
    let cluster = documented.get_mut("[cluster]").unwrap();
    cluster.extend(["proxy".to_owned(), "balancer".to_owned()]);
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for error in report_of_nothing().errors {
        let Some(place) = error.message.strip_prefix("unknown key \"xyzxyzxyz\" in ") else {
            continue;
        };
        let keys = error.help.strip_prefix("known keys: ").unwrap();
        known.insert(
            section_of(place).to_owned(),
            keys.split(", ").map(str::to_owned).collect(),
        );
    }
    assert_eq!(known, documented);
}

#[test]
fn what_the_docs_call_required_is_required() {
    let documented: BTreeSet<_> = rows()
        .into_iter()
        .filter(|row| row.default == "required" || row.default.starts_with("required,"))
        .map(|row| (row.section, row.key))
        .collect();
    let mut missing = BTreeSet::new();
    for error in report_of_nothing().errors {
        let Some(rest) = error.message.strip_prefix("missing key \"") else {
            continue;
        };
        let (key, place) = rest.split_once("\" in ").unwrap();
        missing.insert((section_of(place).to_owned(), key.to_owned()));
    }
    assert_eq!(missing, documented);
}

/// A proxy that relays: nothing but required keys.
const LEAST: &str = r#"
node = { name = "n", roles = ["proxy"] }
vip = [{ name = "v", addresses = ["127.0.0.1:80"] }]
"#;

#[test]
fn every_default_is_the_documented_one() {
    let config = parse(LEAST).unwrap();
    let Config {
        node,
        proxy,
        balancer,
        backend,
        relay,
        ..
    } = &config;
    assert_eq!(balancer.mode, baton_kernel::Mode::Flow);
    let check = crate::config::Check::default();
    let ms = |time: Duration| time.as_millis().to_string();
    let s = |time: Duration| time.as_secs().to_string();
    let format = match node.log_format {
        LogFormat::Text => "\"text\"",
        LogFormat::Json => "\"json\"",
    };
    let actual: BTreeMap<_, String> = [
        (
            "[node] interfaces",
            format!("{:?}; required for handoff", node.interfaces),
        ),
        ("[node] admin", format!("\"{}\"", node.admin.unwrap())),
        (
            "[node] log",
            format!("\"{}\"", node.log.to_string().to_lowercase()),
        ),
        ("[node] log_format", format.to_owned()),
        ("[cluster] port", config.cluster.port.to_string()),
        (
            "[cluster] heartbeat_interval_ms",
            ms(config.cluster.heartbeat_interval),
        ),
        (
            "[cluster] replicas",
            match config.cluster.replicas {
                Replicas::All => "\"all\"".to_owned(),
                Replicas::Some(number) => number.to_string(),
            },
        ),
        (
            "[proxy] announce",
            format!(
                "{}, and false behind [[cluster.balancer]], where it cannot be true",
                proxy.announce
            ),
        ),
        ("[pool.check] status", check.status.to_string()),
        ("[pool.check] interval_ms", ms(check.interval)),
        ("[pool.check] timeout_ms", ms(check.timeout)),
        ("[pool.check] rise", check.rise.to_string()),
        ("[pool.check] fall", check.fall.to_string()),
        (
            "[pool.check] path",
            "none: that it can be connected to is enough".to_owned(),
        ),
        ("[pool.check] host", "the server's name".to_owned()),
        ("[balancer] mode", "\"flow\"".to_owned()),
        (
            "[balancer] batch_packets",
            balancer.batch_packets.to_string(),
        ),
        ("[proxy] max_flows", proxy.max_flows.to_string()),
        ("[proxy] known_requests", proxy.known_requests.to_string()),
        ("[proxy] flow_idle_timeout_s", s(proxy.flow_idle_timeout)),
        ("[proxy] closing_timeout_s", s(proxy.closing_timeout)),
        ("[proxy] head_ack_ms", ms(proxy.head_ack)),
        ("[proxy] head_wait_ms", ms(proxy.head_wait)),
        ("[proxy] release_timeout_ms", ms(proxy.release_timeout)),
        ("[proxy] max_held_bytes", proxy.max_held_bytes.to_string()),
        ("[backend] max_flows", backend.max_flows.to_string()),
        (
            "[backend] path_test_interval_s",
            s(backend.path_test_interval),
        ),
        (
            "[backend] access_log",
            backend
                .access_log
                .as_ref()
                .map_or("none", |_| "some")
                .to_owned(),
        ),
        ("[backend] access_log_format", "\"combined\"".to_owned()),
        (
            "[backend] receive_buffer_bytes",
            backend.receive_buffer.to_string(),
        ),
        ("[relay] connect_timeout_ms", ms(relay.connect_timeout)),
        ("[relay] response_timeout_ms", ms(relay.response_timeout)),
        ("[relay] idle_timeout_ms", ms(relay.idle_timeout)),
        ("[relay] head_timeout_ms", ms(relay.head_timeout)),
        ("[relay] max_head_bytes", relay.max_head_bytes.to_string()),
        ("[relay] max_connections", relay.max_connections.to_string()),
        (
            "[[vip]] default_pool",
            config.vips[0]
                .default_pool
                .map_or("none", |_| "some")
                .to_owned(),
        ),
        ("[[pool]] mechanism", "\"handoff\"".to_owned()),
        ("[[pool]] policy", "\"weighted-round-robin\"".to_owned()),
    ]
    .into();
    let documented: BTreeMap<_, _> = rows()
        .into_iter()
        .filter(|row| !row.default.starts_with("required") && row.section != "[[route]]")
        .map(|row| {
            (
                format!("{} {}", row.section, row.key),
                row.default.replace('`', ""),
            )
        })
        .collect();
    let actual: BTreeMap<_, _> = actual
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    assert_eq!(actual, documented);
}

#[test]
fn a_pool_without_further_keys_is_of_the_documented_kind() {
    let pool = r#"
server = [{ name = "s", address = "10.77.0.21" }]
pool = [{ name = "p", servers = ["s"] }]
"#;
    let config = parse(&format!("{LEAST}{pool}")).unwrap();
    assert_eq!(config.policy.pools()[0].mechanism(), Mechanism::Handoff);
    // A pool that no request reaches asks for nothing.
    assert!(!config.needs_handoff());
}
