//! Whatever is wrong, it is reported: no file makes the reader panic or give up without a word.

use std::path::Path;

use crate::config::{Config, Scope};

const RIGHT: &str = r#"
[node]
name = "everything"
roles = ["backend"]
interfaces = ["eth0"]
address = "10.77.0.11"
secret_file = "secret"
admin = ""
log = "debug"
log_format = "json"
[cluster]
port = 7000
replicas = 2
[[cluster.proxy]]
name = "p1"
address = "10.77.0.31"
[[cluster.balancer]]
name = "l1"
address = "10.77.0.41"
[proxy]
announce = false
max_flows = 1_000
head_wait_ms = 0x20
[balancer]
mode = "batch"
batch_packets = 7
[relay]
idle_timeout_ms = 1000
[backend]
max_flows = 5
[[backend.service]]
vip = "web"
listen = "[::]:8080"
[[vip]]
name = "web"
addresses = ["10.77.0.10:80", "[fd77::10]:80"]
default_pool = "pages"
[[server]]
name = "b1"
address = "10.77.0.21"
http = "10.77.0.21:8080"
[[pool]]
name = "pages"
policy = "weighted-random"
servers = ["b1"]
[[pool]]
name = "images"
mechanism = "relay"
servers = [{ name = "b1", weight = 1000 }]
[[route]]
vip = "web"
host = "*.Example.com"
path_regex = "^/a+$"
method = ["GET", "HEAD"]
header = { name = "X-A", value = "" }
cookie = { name = "a" }
query = { name = "a", value = "1" }
pool = "images"
"#;

fn reported(text: &str) -> Result<(), String> {
    match Config::parse(text, Path::new("x"), Scope::Elsewhere) {
        Ok(_) => Ok(()),
        Err(report) => Err(report.to_string()),
    }
}

#[test]
fn every_key_is_understood() {
    assert_eq!(reported(RIGHT), Ok(()));
}

#[test]
fn a_value_of_the_wrong_kind_is_reported_on_its_line() {
    let lines: Vec<_> = RIGHT.lines().collect();
    let mut tried = 0;
    for (at, line) in lines.iter().enumerate() {
        let Some((key, _)) = line.split_once(" = ") else {
            continue;
        };
        for wrong in [
            "1.5",
            "1979-05-27",
            "[[]]",
            "{ x = 1 }",
            "-1",
            "\"\\u0000é\"",
            "[1]",
            "nonsense",
        ] {
            let mut lines = lines.clone();
            let changed = format!("{key} = {wrong}");
            lines[at] = &changed;
            let report = reported(&lines.join("\n")).expect_err(&changed);
            assert!(
                report.contains(&format!("x:{}:", at + 1)),
                "{changed}\n{report}"
            );
            assert!(!report.contains("not understood"), "{changed}\n{report}");
            tried += 1;
        }
    }
    assert!(tried > 200, "only {tried} tried");
}

#[test]
fn a_file_without_one_of_its_lines_or_cut_short_is_right_or_reported() {
    let lines: Vec<_> = RIGHT.lines().collect();
    let without = |at: usize| [&lines[..at], &lines[at + 1..]].concat().join("\n");
    let cut = |at: usize| RIGHT[..at].to_owned();
    for text in (0..lines.len())
        .map(without)
        .chain((0..RIGHT.len()).map(cut))
    {
        if let Err(report) = reported(&text) {
            assert!(!report.contains("not understood"), "{text}\n{report}");
        }
    }
}
