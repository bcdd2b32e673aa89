//! H17: servers whose kernels do not take over all that a SYN-ACK can promise. Agents say so, and no client is promised what cannot be kept.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};

use super::log::{logged, settle};
use super::{Ground, PROXY};
use crate::client::{Connection, Expected, Request};
use crate::cluster::{File, Lab, wait_until};
use crate::command;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

/// Heartbeats come five times a second; a busy machine may take longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a server's kernel does without.
struct Without {
    name: &'static str,
    setting: &'static str,
    /// Whether the server can still adopt flows, of clients that are promised less.
    adopts: bool,
}

const ALL: [Without; 4] = [
    Without {
        name: "no-timestamps",
        setting: "net.ipv4.tcp_timestamps",
        adopts: true,
    },
    Without {
        name: "no-sack",
        setting: "net.ipv4.tcp_sack",
        adopts: true,
    },
    Without {
        name: "no-window-scaling",
        setting: "net.ipv4.tcp_window_scaling",
        adopts: true,
    },
    Without {
        name: "no-syncookies",
        setting: "net.ipv4.tcp_syncookies",
        adopts: false,
    },
];

pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    for without in &ALL {
        recorder.case(&format!("H17/{}", without.name), |counts| {
            let lab = ground.lab()?;
            let told = flip(lab, counts, without, if short { 20 } else { 200 });
            lab.netns(SERVERS[0]).sysctl(without.setting, "1")?;
            told
        })?;
    }
    Ok(())
}

/// Switches the setting off at one server while requests run; then all are still answered, by all servers that can.
fn flip(
    lab: &mut Lab,
    counts: &mut Counts,
    without: &Without,
    requests: usize,
) -> anyhow::Result<String> {
    let file = lab.content.file("1KB")?;
    let server = SERVERS[0];
    lab.netns(server).sysctl(without.setting, "1")?;
    stands(lab, server, "usable", true, without)?;
    let flipped = AtomicBool::new(false);
    let answers = thread::scope(|scope| {
        let lab = &*lab;
        let running = scope.spawn(|| {
            let mut answers = Vec::new();
            // Some before, some meanwhile, some after.
            while !flipped.load(Ordering::Relaxed) || answers.len() < 50 {
                for path in ["/1KB", "/a/1KB"] {
                    answers.push((path, ask(lab, path)));
                }
            }
            answers
        });
        let state = if without.adopts {
            "usable"
        } else {
            "relay_only"
        };
        let known = lab
            .netns(server)
            .sysctl(without.setting, "0")
            .and_then(|()| stands(lab, server, state, false, without));
        flipped.store(true, Ordering::Relaxed);
        let answers = running.join().map_err(|_| anyhow!("a thread broke"))?;
        known.map(|()| answers)
    })?;
    let meanwhile = answers.len();
    for (path, answer) in answers {
        check(counts, path, answer, &file).context("while the setting changed")?;
    }
    let bound = handed_off(lab, server)?;
    for _ in 0..requests {
        for path in ["/1KB", "/a/1KB"] {
            check(counts, path, ask(lab, path), &file)?;
        }
    }
    let bound = handed_off(lab, server)? - bound;
    ensure!(
        (bound > 0) == without.adopts,
        "{server} was handed {bound} requests afterwards"
    );
    Ok(format!(
        "{meanwhile} answers while it changed, {} afterwards; {server} was handed {bound} of these",
        2 * requests
    ))
}

fn ask(lab: &Lab, path: &str) -> anyhow::Result<crate::client::Answer> {
    Connection::to_vip(lab)?.ask(&Request::new("GET", path))
}

fn check(
    counts: &mut Counts,
    path: &str,
    answer: anyhow::Result<crate::client::Answer>,
    file: &File,
) -> anyhow::Result<()> {
    let server = match &answer {
        Ok(answer) if path == "/1KB" => answer.server().to_owned(),
        _ => SERVERS[0].to_owned(),
    };
    counts
        .check(answer, &Expected::file(&server, file))
        .map(drop)
}

/// Waits until the proxy knows how the server stands.
fn stands(
    lab: &Lab,
    server: &str,
    state: &str,
    takes_over: bool,
    without: &Without,
) -> anyhow::Result<()> {
    wait_until(&format!("{PROXY} knows of {server}"), PATIENCE, || {
        let known = standing(lab, server)?;
        let option = without.setting.trim_start_matches("net.ipv4.tcp_");
        let listed = known["takes_over"]
            .as_array()
            .is_some_and(|all| all.iter().any(|name| name == option));
        Ok(known["state"] == state && (!without.adopts || listed == takes_over))
    })
}

/// What the proxy says of a server.
pub(super) fn standing(lab: &Lab, server: &str) -> anyhow::Result<serde_json::Value> {
    let mut status = lab.netns(PROXY).command(lab.baton());
    let status = command::run(status.args(["status", "--json"]))?;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    let servers = status["servers"].as_array().cloned().unwrap_or_default();
    let known = servers.into_iter().find(|known| known["name"] == server);
    Ok(known.unwrap_or_default())
}

/// Requests that a server's own log has from the client itself: they were handed off, and are not tests of the agent's. The relay's come from the
/// proxy.
fn handed_off(lab: &Lab, server: &str) -> anyhow::Result<usize> {
    settle();
    let client = lab.topology.client().address(lab.options.family());
    logged(lab, server, &format!(" {client} \"GET"))
}
