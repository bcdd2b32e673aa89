//! `baton status`: what a running node says of itself.

use std::io::{Read, Write, stdout};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

/// How long the node may take to connect, and to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Prints the node's status as a table, or as the JSON that it answers.
pub(crate) fn status(admin: SocketAddr, json: bool) -> anyhow::Result<()> {
    let text = ask(admin, "GET", "/status").with_context(|| {
        format!("no status from {admin}; is the node running, and is that its [node] admin address (--admin)?")
    })?;
    let status: Value = serde_json::from_str(&text)
        .with_context(|| format!("what answers at {admin} is not a baton node (--admin)"))?;
    let shown = if json {
        format!(
            "{status}
"
        )
    } else {
        table(&status)
    };
    // Who closes the pipe early has read enough.
    let _ = stdout().write_all(shown.as_bytes());
    Ok(())
}

/// The answer to a request without a body.
pub(super) fn ask(admin: SocketAddr, method: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {admin}\r\nContent-Length: 0\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| anyhow!("it does not speak HTTP"))?;
    let first = head.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) != Some("200") {
        bail!("it answered {first}");
    }
    Ok(body.to_owned())
}

/// The status for people. Counters that are zero are left out.
fn table(status: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let seconds = status["uptime_seconds"].as_u64().unwrap_or_default();
    let state = match (&status["ready"], &status["draining"]) {
        (Value::Bool(true), Value::Bool(true)) => "ready, drained",
        (Value::Bool(true), _) => "ready",
        _ => "not ready",
    };
    let mut lines = vec![format!(
        "{}: {state}, up {}, baton {}",
        text(&status["node"]),
        uptime(seconds),
        text(&status["version"])
    )];
    for (role, ready) in status["roles"].as_object().into_iter().flatten() {
        let state = if ready == true { "ready" } else { "starting" };
        lines.push(format!("  role {role}: {state}"));
    }
    for vip in each(&status["vips"]) {
        let addresses: Vec<_> = each(&vip["addresses"]).map(text).collect();
        lines.push(format!(
            "  VIP {}: {}",
            text(&vip["name"]),
            addresses.join(", ")
        ));
    }
    for pool in each(&status["pools"]) {
        let servers = pool["servers"].as_object().into_iter().flatten();
        let servers: Vec<_> = servers
            .map(|(name, weight)| format!("{name} (weight {weight})"))
            .collect();
        lines.push(format!(
            "  pool {}, {}: {}",
            text(&pool["name"]),
            text(&pool["mechanism"]),
            servers.join(", ")
        ));
    }
    for server in each(&status["servers"]) {
        let state = text(&server["state"]).replace('_', " ");
        let takes_over: Vec<_> = each(&server["takes_over"]).map(text).collect();
        let mut line = format!(
            "  server {}, {}: {state}",
            text(&server["name"]),
            text(&server["address"])
        );
        match server["reason"].as_str() {
            Some(reason) => line += &format!(": {reason}"),
            None => line += &format!(", takes over {}", takes_over.join(", ")),
        }
        lines.push(line);
    }
    let part = &status["part"];
    if let Some(owned) = part["owned_per_mille"].as_u64() {
        let decides = if part["decides"] == true {
            "decides for"
        } else {
            "decides nothing now (no majority is heard); owns"
        };
        let (percent, term) = (owned as f64 / 10.0, &part["term"]);
        lines.push(format!(
            "  {decides} {percent:.1} % of all flows, in term {term}"
        ));
    }
    lines.extend(each(&status["nodes"]).map(node));
    let counted: Vec<_> = each(&status["metrics"])
        .filter(|sample| sample["value"] != 0)
        .map(sample)
        .collect();
    let width = counted
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or_default();
    lines.extend(
        counted
            .iter()
            .map(|(name, value)| format!("  {name:width$}  {value:>12}")),
    );
    lines.push(String::new());
    lines.join("\n")
}

/// `node proxy2, 10.77.0.12, proxy: live, heard 0.1 s ago, 87 % free`
fn node(node: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut line = format!("  node {}, {}", text(&node["name"]), text(&node["address"]));
    if let Some(role) = node["role"].as_str() {
        line += &format!(", {role}");
    }
    line += &format!(": {}", text(&node["state"]));
    if let Some(ms) = node["heard_ms_ago"].as_u64() {
        line += &format!(", heard {:.1} s ago", ms as f64 / 1000.0);
    }
    if let Some(available) = node["available_per_mille"].as_u64() {
        line += &format!(", {} % free", available / 10);
    }
    if node["same_configuration"] == false {
        line += ", ITS CONFIGURATION OF THE CLUSTER IS ANOTHER";
    }
    line
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// `baton_packets_total role=proxy`, and its value.
fn sample(sample: &Value) -> (String, String) {
    let mut name = sample["name"].as_str().unwrap_or_default().to_owned();
    for (label, value) in sample["labels"].as_object().into_iter().flatten() {
        name += &format!(" {label}={}", value.as_str().unwrap_or_default());
    }
    (name, sample["value"].to_string())
}

fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_shows_what_is_and_leaves_zeros_out() {
        let status = json!({
            "node": "proxy1", "version": "0.1.0", "uptime_seconds": 3_720, "ready": false,
            "roles": { "proxy": false, "relay": true },
            "vips": [{ "name": "web", "addresses": ["10.77.0.10:80", "[fd77::10]:80"], "handoff": true }],
            "pools": [{ "name": "pages", "mechanism": "handoff", "servers": { "b1": 1, "b2": 3 } }],
            "servers": [
                { "name": "b1", "address": "10.77.0.21", "state": "usable", "reason": null, "takes_over": ["timestamps", "sack"] },
                { "name": "b2", "address": "10.77.0.22", "state": "out", "reason": "silent", "takes_over": [] },
            ],
            "part": { "decides": true, "term": 77, "owned_per_mille": 334 },
            "nodes": [
                { "name": "proxy2", "address": "10.77.0.12", "role": "proxy", "state": "live", "heard_ms_ago": 149, "available_per_mille": 875, "same_configuration": true },
                { "name": "b1", "address": "10.77.0.21", "role": null, "state": "never heard", "heard_ms_ago": null, "available_per_mille": null, "same_configuration": null },
                { "name": "b2", "address": "10.77.0.22", "role": "backend", "state": "silent", "heard_ms_ago": 61000, "available_per_mille": 1000, "same_configuration": false },
            ],
            "metrics": [
                { "name": "baton_binds_total", "labels": {}, "value": 17 },
                { "name": "baton_packets_total", "labels": { "role": "proxy", "verdict": "dropped" }, "value": 3 },
                { "name": "baton_rebinds_total", "labels": {}, "value": 0 },
            ],
        });
        let expected = "\
proxy1: not ready, up 1 h 2 min, baton 0.1.0
  role proxy: starting
  role relay: ready
  VIP web: 10.77.0.10:80, [fd77::10]:80
  pool pages, handoff: b1 (weight 1), b2 (weight 3)
  server b1, 10.77.0.21: usable, takes over timestamps, sack
  server b2, 10.77.0.22: out: silent
  decides for 33.4 % of all flows, in term 77
  node proxy2, 10.77.0.12, proxy: live, heard 0.1 s ago, 87 % free
  node b1, 10.77.0.21: never heard
  node b2, 10.77.0.22, backend: silent, heard 61.0 s ago, 100 % free, ITS CONFIGURATION OF THE CLUSTER IS ANOTHER
  baton_binds_total                                         17
  baton_packets_total role=proxy verdict=dropped             3
";
        assert_eq!(table(&status), expected);
    }

    #[test]
    fn uptime_has_two_units_at_most() {
        assert_eq!(
            [59, 61, 3_600, 90_000].map(uptime),
            ["59 s", "1 min", "1 h 0 min", "1 d 1 h"]
        );
    }
}
