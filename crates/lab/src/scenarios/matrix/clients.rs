//! Section 5: other clients.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::json;

use super::Ground;
use crate::client::{Expected, ab, curl, url, wrk_script};
use crate::cluster::requirements::{PYTHON, require};
use crate::cluster::{Lab, POOLS, digest_of};
use crate::command;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

const SESSION: &str = include_str!("session.py");
const WRK: &str = include_str!("three_pools.lua");

pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    recorder.case("5/curl", |counts| three_at_once(ground.lab()?, counts))?;
    recorder.case("5/wrk", |counts| {
        load(ground.lab()?, counts, if short { 2 } else { 20 })
    })?;
    for (name, arguments) in [("keep-alive", &["-k"][..]), ("close", &[])] {
        recorder.case(&format!("5/ab/{name}"), |counts| {
            let requests = if short { 500 } else { 10_000 };
            bench(ground.lab()?, counts, requests, arguments)
        })?;
    }
    recorder.case("5/python-requests", |counts| {
        session(ground.lab()?, counts, if short { 60 } else { 600 })
    })
}

/// curl itself decides which connections it uses again.
fn three_at_once(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let mut curl_all = lab.netns("client").command("curl");
    curl_all.args(["-q", "-sSf", "--noproxy", "*", "-m", "60"]);
    let (mut expected, mut requests) = (Vec::new(), 0);
    for round in 0..30 {
        let (pool, server) = (POOLS[round % 3], SERVERS[round % 3]);
        let answers = lab.dir("client").join(format!("curl-{round}"));
        curl_all.arg("-o").arg(&answers);
        curl_all.arg(url(lab.vip(), &format!("/{pool}/unique")));
        expected.push((answers, lab.unique(server)?));
        requests += 1;
    }
    curl_all.args(["-w", "%{num_connects}\n"]);
    let told = command::run(&mut curl_all)?;
    let connections: usize = told
        .lines()
        .filter_map(|line| line.parse::<usize>().ok())
        .sum();
    for (path, file) in expected {
        counts.transfers += 1;
        let right = digest_of(&fs::read(&path)?) == file.sha256;
        fs::remove_file(&path)?;
        if !right {
            counts.wrong_bytes += 1;
        }
        ensure!(right, "{} has other bytes", path.display());
    }
    ensure!(
        connections == 1,
        "curl opened {connections} connections for {requests} requests"
    );
    let large = lab.content.file("1MB")?;
    let resumed = curl(lab, &url(lab.vip(), "/b/1MB"), &["--compressed", "-L"]);
    counts.check(resumed, &Expected::file(SERVERS[1], &large))?;
    Ok(format!("{requests} files by one command on one connection"))
}

fn load(lab: &mut Lab, counts: &mut Counts, seconds: u64) -> anyhow::Result<String> {
    lab.content.file("1KB")?;
    let script = lab.dir("client").join("three_pools.lua");
    fs::write(&script, WRK)?;
    let to = url(lab.vip(), "/");
    let script = script.display().to_string();
    let load = wrk_script(lab, &to, &script, Duration::from_secs(seconds))?;
    counts.transfers += load.requests;
    counts.failed += load.failed;
    ensure!(
        load.failed == 0,
        "{} of {} requests failed",
        load.failed,
        load.requests
    );
    ensure!(load.requests > 100, "only {} requests", load.requests);
    Ok(format!(
        "{} requests over three pools, none failed",
        load.requests
    ))
}

fn bench(
    lab: &mut Lab,
    counts: &mut Counts,
    requests: u64,
    arguments: &[&str],
) -> anyhow::Result<String> {
    lab.content.file("1KB")?;
    for pool in POOLS {
        let bench = ab(
            lab,
            &url(lab.vip(), &format!("/{pool}/1KB")),
            requests,
            arguments,
        )?;
        counts.transfers += bench.complete;
        counts.failed += bench.failed;
        ensure!(
            bench.complete == requests && bench.failed == 0,
            "pool {pool}: {bench:?}"
        );
        ensure!(
            (bench.kept_alive > 0) == arguments.contains(&"-k"),
            "pool {pool}: {bench:?}"
        );
    }
    Ok(format!(
        "{requests} requests for each of three pools, none failed"
    ))
}

/// What the script tells.
#[derive(Deserialize)]
struct Session {
    answers: u64,
    wrong: Vec<String>,
}

/// A Session of python-requests, with its pool of connections.
fn session(lab: &mut Lab, counts: &mut Counts, rounds: u32) -> anyhow::Result<String> {
    require(PYTHON, "python3")?;
    command::run(Command::new(PYTHON).args(["-c", "import requests"]))
        .context("Python's requests is missing: install the package python3-requests")?;
    let mut pools = Vec::new();
    for (pool, server) in POOLS.iter().zip(SERVERS) {
        let sha256 = lab.unique(server)?.sha256;
        pools.push(json!({"prefix": format!("/{pool}"), "server": server, "unique": sha256}));
    }
    let plan = json!({"url": format!("http://{}", lab.vip()), "pools": pools, "rounds": rounds});
    let mut python = lab.netns("client").command(PYTHON);
    python.args(["-c", SESSION, &plan.to_string()]);
    python.env("no_proxy", "*");
    let told: Session = serde_json::from_str(&command::run(&mut python)?)?;
    counts.transfers += told.answers;
    counts.failed += told.wrong.len() as u64;
    ensure!(told.wrong.is_empty(), "{}", told.wrong.join("; "));
    ensure!(
        told.answers >= 3 * u64::from(rounds),
        "{} answers",
        told.answers
    );
    Ok(format!("{} answers in one session", told.answers))
}
