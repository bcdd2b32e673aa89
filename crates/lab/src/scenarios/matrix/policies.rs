//! Section 4: policies of pools.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

use super::edit::with_routes;
use super::{Ground, PROXY};
use crate::client::url;
use crate::cluster::Lab;
use crate::command;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

/// Three to one.
const WEIGHTED: &str = r#"
[[pool]]
name = "weighted"
mechanism = "MECHANISM"
policy = "POLICY"
servers = [{ name = "backend1", weight = 3 }, "backend2"]

[[route]]
path = "/whoami"
pool = "weighted"
"#;

pub(super) fn cases(recorder: &mut Recorder, ground: &mut Ground<'_>) -> anyhow::Result<()> {
    recorder.case("4/policies/weighted-round-robin", |counts| {
        let lab = ground.lab()?;
        configure(lab, "weighted-round-robin")?;
        let (first, second) = tally(lab, counts, 40)?;
        ensure!(
            (first, second) == (30, 10),
            "{first}:{second} of 40 connections instead of 30:10"
        );
        Ok("30:10 of 40 connections".into())
    })?;
    recorder.case("4/policies/weighted-random", |counts| {
        let lab = ground.lab()?;
        configure(lab, "weighted-random")?;
        let (first, second) = tally(lab, counts, 400)?;
        // 300 are expected; 60 off is seven standard deviations.
        ensure!(
            (240..=360).contains(&first),
            "{first}:{second} of 400 connections instead of about 300:100"
        );
        Ok(format!("{first}:{second} of 400 connections"))
    })
}

fn configure(lab: &mut Lab, policy: &str) -> anyhow::Result<()> {
    let pool = WEIGHTED
        .replace("MECHANISM", lab.options.mechanism.name())
        .replace("POLICY", policy);
    let text = with_routes(&lab.configuration(PROXY)?, &pool);
    lab.run_with(PROXY, &text)
}

/// How many of so many connections, one after the other, the first two servers answered.
fn tally(lab: &Lab, counts: &mut Counts, connections: u64) -> anyhow::Result<(u64, u64)> {
    let urls = url(lab.vip(), &format!("/whoami?[1-{connections}]"));
    let mut curl = lab.netns("client").command("curl");
    // IPv6 addresses have brackets, but no range in them: curl's globbing lets them be.
    curl.args(["-q", "-sS", "--http1.1", "--noproxy", "*", "-m", "60"]);
    curl.args(["-H", "Connection: close", "-w", "%{num_connects}\n"]);
    counts.transfers += connections;
    let text = command::run(curl.arg(urls)).inspect_err(|_| counts.failed += connections)?;
    // For each request the server's name, then the number of connections made for it.
    let lines: Vec<&str> = text.lines().collect();
    let mut answers = BTreeMap::new();
    for pair in lines.chunks(2) {
        let [server, connects] = pair else {
            anyhow::bail!("unexpected words of curl: {pair:?}")
        };
        ensure!(*connects == "1", "{connects} connections for one request");
        *answers.entry(*server).or_insert(0) += 1;
    }
    let answered = |server| {
        answers
            .get(server)
            .copied()
            .context("one server was not asked")
    };
    let (first, second) = (answered(SERVERS[0])?, answered(SERVERS[1])?);
    ensure!(
        first + second == connections,
        "{answers:?} do not add up to {connections}"
    );
    Ok((first, second))
}
