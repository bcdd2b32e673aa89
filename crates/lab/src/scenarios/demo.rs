//! What Baton does, told as one would tell it to somebody beside the screen.

use anyhow::{Context, ensure};
use serde_json::Value;

use super::compare::{bulk, bulk_bytes, start_nginx};
use super::site::unique_name;
use super::statistics::median;
use super::{SERVERS, Setting};
use crate::client::{Expected, curl, url};
use crate::cluster::{Lab, POOLS, RunningLab};
use crate::command;
use crate::report::{Counts, Recorder};

/// Writes the story as it goes: to standard output, or nowhere if that is for JSON.
pub(crate) struct Story {
    pub(crate) told: bool,
}

impl Story {
    fn say(&self, text: &str) {
        if self.told {
            println!("{text}");
        }
    }
}

/// # Errors
/// When the lab does not come up, or when interrupted.
pub(crate) fn run(
    recorder: &mut Recorder,
    setting: &Setting<'_>,
    story: &Story,
) -> anyhow::Result<()> {
    eprintln!("bringing up a lab: a client, a proxy, three back ends");
    let mut lab = RunningLab::up(&unique_name(), setting.options.clone(), setting.baton)?;
    introduce(&lab, story);
    recorder.case("demo/three-pools-one-connection", |counts| {
        three_pools(&lab, counts, story)
    })?;
    recorder.case("demo/download", |counts| download(&mut lab, counts, story))?;
    speeds(recorder, &mut lab, setting.short, story)
}

fn introduce(lab: &Lab, story: &Story) {
    story.say(&format!(
        "
A cluster on this machine; every host is a network namespace, every server a real nginx:

                    +-- proxy1     knows the VIP {vip}
    client ---------+-- backend1   nginx, pool a: /a/...
            switch  +-- backend2   nginx, pool b: /b/...
                    +-- backend3   nginx, pool c: /c/...

The client knows one address, {vip}. Mechanism: {mechanism}.
",
        vip = lab.vip(),
        mechanism = lab.options.mechanism.name(),
    ));
}

/// One curl, one connection, three URLs: each answered by the server that the path asks for.
fn three_pools(lab: &Lab, counts: &mut Counts, story: &Story) -> anyhow::Result<String> {
    let mut curl = lab.netns("client").command("curl");
    curl.args([
        "-q",
        "-sS",
        "--http1.1",
        "--globoff",
        "--noproxy",
        "*",
        "-m",
        "10",
        "-w",
        "%{num_connects} %{http_code}\n",
    ]);
    let urls: Vec<String> = POOLS
        .iter()
        .map(|pool| url(lab.vip(), &format!("/{pool}/whoami")))
        .collect();
    counts.transfers += 3;
    let text = command::run(curl.args(&urls)).inspect_err(|_| counts.failed += 3)?;
    // For each: the body (the server's name), then new connections and status.
    let lines: Vec<&str> = text.lines().collect();
    story.say("1. Three requests, ONE keep-alive connection, by one curl:\n");
    let mut right = 0;
    for ((url, server), lines) in urls.iter().zip(SERVERS).zip(lines.chunks(2)) {
        let [answered_by, told] = lines else { continue };
        let connection = if told.starts_with("0 ") {
            "same connection"
        } else {
            "new connection"
        };
        story.say(&format!(
            "   GET {url:<32} -> answered by {answered_by}  ({connection})"
        ));
        let expected_connects = if right == 0 { "1 200" } else { "0 200" };
        right += usize::from(*answered_by == server && *told == expected_connects);
    }
    counts.failed += (SERVERS.len() - right) as u64;
    ensure!(
        right == SERVERS.len(),
        "not three answers from three servers on one connection: {lines:?}"
    );
    Ok("backend1, backend2, backend3 on one connection".into())
}

/// A download with a checksum, and what each host's interface sent meanwhile.
fn download(lab: &mut Lab, counts: &mut Counts, story: &Story) -> anyhow::Result<String> {
    let file = lab.content.file("100MB")?;
    let hosts = ["client", "proxy1", "backend1"];
    let before = sent(lab, &hosts)?;
    let answer = curl(lab, &url(lab.vip(), "/a/100MB"), &[]);
    let answer = counts.check(answer, &Expected::file(SERVERS[0], &file))?;
    let after = sent(lab, &hosts)?;
    story.say(
        "\n2. A download of 100 MB, and who sent the bytes (counters of the hosts' interfaces):\n",
    );
    let mut sent = Vec::new();
    for ((host, before), after) in hosts.iter().zip(before).zip(after) {
        let megabytes = after.saturating_sub(before) as f64 / 1e6;
        story.say(&format!("   {host:<10} sent {megabytes:>7.1} MB"));
        sent.push(format!("{host} sent {megabytes:.1} MB"));
    }
    story.say(&format!(
        "\n   answered by {}, SHA-256 {}... is right",
        answer.server(),
        &answer.sha256[..16]
    ));
    Ok(sent.join(", "))
}

/// Bytes that the hosts' interfaces have sent so far.
fn sent(lab: &Lab, hosts: &[&str]) -> anyhow::Result<Vec<u64>> {
    let one = |host: &&str| {
        let links: Value = serde_json::from_str(&lab.netns(host).ip("-s -j link show dev eth0")?)?;
        links[0]["stats64"]["tx"]["bytes"]
            .as_u64()
            .context("`ip` tells no counters")
    };
    hosts.iter().map(one).collect()
}

fn speeds(
    recorder: &mut Recorder,
    lab: &mut Lab,
    short: bool,
    story: &Story,
) -> anyhow::Result<()> {
    let bytes = bulk_bytes(short);
    lab.content.cache_sparse(bytes)?;
    let mechanism = lab.options.mechanism.name();
    let mut medians = Vec::new();
    let mut runs = Vec::new();
    recorder.case("demo/speed", |counts| {
        let nginx = start_nginx(lab)?;
        let systems = [
            ("direct", lab.direct(SERVERS[0])?),
            (mechanism, lab.vip()),
            ("nginx", nginx),
        ];
        let mut values = systems.map(|_| Vec::new());
        for _ in 0..3 {
            for ((_, address), values) in systems.iter().zip(&mut values) {
                values.push(bulk(lab, *address, bytes, counts)?);
            }
        }
        medians = systems
            .iter()
            .zip(&values)
            .filter_map(|((name, _), values)| Some((*name, median(values)?)))
            .collect();
        runs = systems.iter().map(|(name, _)| *name).zip(values).collect();
        Ok(medians
            .iter()
            .map(|(name, speed)| format!("{name} {speed:.0} MB/s"))
            .collect::<Vec<_>>()
            .join(", "))
    })?;
    for (name, runs) in &runs {
        recorder.figure("bulk", name, runs, "MB/s");
    }
    recorder.ratio("bulk", mechanism, "direct");
    recorder.ratio("bulk", mechanism, "nginx");
    let &[(_, direct), ..] = &medians[..] else {
        return Ok(());
    };
    story.say(&format!(
        "\n3. How fast: a download of {} MiB, median of three:\n",
        bytes >> 20
    ));
    for (name, speed) in medians {
        let name = match name {
            "direct" => "directly from backend1".to_owned(),
            "nginx" => "through nginx as a proxy".to_owned(),
            mechanism => format!("through Baton ({mechanism})"),
        };
        story.say(&format!(
            "   {name:<26} {speed:>6.0} MB/s   {:>4.0} % of direct",
            speed / direct * 100.0
        ));
    }
    story.say("");
    Ok(())
}
