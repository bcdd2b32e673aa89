//! H8, H9: a server's host is cut off, before it answers and in the middle of its answer.

use std::io::{ErrorKind, Read};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::rotation::logged;
use super::{Ground, PROXY};
use crate::client::{Connection, Expected, Request};
use crate::cluster::{Lab, SPARSE, wait_until};
use crate::impair::{Fate, Way};
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

/// Three heartbeats and a half, and as much again and more for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the servers think: long enough to be cut off meanwhile.
const THINKING_MS: u64 = 4000;
const KNOWN_FIRST: &str =
    "baton_packets_total{role=\"proxy\",verdict=\"bound\",reason=\"known_first_request\"}";
const ASKED_ANOTHER: &str = "baton_decisions_total{event=\"asked_another\"}";

/// `ground` has the client's cable tapped.
pub(super) fn cases(recorder: &mut Recorder, ground: &mut Ground<'_>) -> anyhow::Result<()> {
    recorder.case("H8/get-before-answer", |counts| {
        let mark = "case=h8-get";
        get_before_answer(ground.lab()?, counts, |lab| asked(lab, "GET", mark))
    })?;
    recorder.case("H8/known-get-before-answer", |counts| {
        get_before_answer(ground.lab()?, counts, asked_by_kernel)
    })?;
    recorder.case("H8/post-before-answer", |counts| {
        post_before_answer(ground.lab()?, counts)
    })?;
    recorder.case("H9/middle-of-download", |_| {
        middle_of_download(ground.lab()?, false)
    })?;
    recorder.case("H9/challenge-ack", |_| {
        middle_of_download(ground.lab()?, true)
    })
}

/// Another server answers, and the client sees nothing of it; also not when the first one is back and still has an answer.
fn get_before_answer(
    lab: &mut Lab,
    counts: &mut Counts,
    asked: impl Fn(&Lab) -> anyhow::Result<(Connection, &'static str)>,
) -> anyhow::Result<String> {
    let before = lab.counter(PROXY, ASKED_ANOTHER)?;
    let (mut connection, first) = asked(lab)?;
    let cut = Cut::off(lab, first)?;
    let asked_at = Instant::now();
    wait_until("the proxy has asked another server", PATIENCE, || {
        Ok(lab.counter(PROXY, ASKED_ANOTHER)? > before)
    })?;
    let noticed = asked_at.elapsed();
    // The first one has its answer when it is back, and the second one not yet, or just.
    thread::sleep(Duration::from_millis(THINKING_MS / 2));
    drop(cut);
    let answer = connection.answer("GET")?;
    let second = answer.server().to_owned();
    ensure!(second != first, "{first} answered, which was cut off");
    counts.check(Ok(answer), &Expected::status(200, &second))?;
    let file = lab.content.file("1KB")?;
    for (pool, server) in crate::cluster::POOLS.iter().zip(SERVERS) {
        usable(lab, server)?;
        let answer = connection.ask(&Request::new("GET", format!("/{pool}/1KB")));
        counts
            .check(answer, &Expected::file(server, &file))
            .context("the same connection afterwards")?;
    }
    Ok(format!(
        "{first} was cut off, {second} was asked {} ms later and answered",
        noticed.as_millis()
    ))
}

/// The client is told, and nobody else is asked.
fn post_before_answer(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let mark = "case=h8-post";
    let (mut connection, first) = asked(lab, "POST", mark)?;
    let cut = Cut::off(lab, first)?;
    let told = is_reset(&mut connection)?;
    drop(cut);
    usable(lab, first)?;
    for server in SERVERS.iter().filter(|server| **server != first) {
        ensure!(
            logged(lab, server, &format!("ms={THINKING_MS}&{mark}"))?.is_empty(),
            "{server} has executed it again"
        );
    }
    let file = lab.content.file("1KB")?;
    let answer = Connection::to_vip(lab)?.ask(&Request::new("GET", "/1KB"));
    let server = answer
        .as_ref()
        .map_or(String::new(), |answer| answer.server().to_owned());
    counts.check(answer, &Expected::file(&server, &file))?;
    Ok(format!(
        "reset {} ms after {first} was cut off",
        told.as_millis()
    ))
}

/// `behind`: the proxy does not see the client's last acknowledgements, so that it does not know what the client expects next.
fn middle_of_download(lab: &mut Lab, behind: bool) -> anyhow::Result<String> {
    let server = SERVERS[0];
    usable(lab, server)?;
    let mut connection = Connection::to_vip(lab)?;
    connection.send(&Request::new("GET", format!("/a/{}", SPARSE.0)))?;
    connection.input().read_exact(&mut vec![0; 1_000_000])?;
    let deaf = behind.then(|| {
        let rule = |way, _: &[u8]| (way == Way::FromHost).then_some(Fate::LOST);
        lab.tap("client").map(|tap| tap.rule(rule))
    });
    let deaf = deaf.transpose()?;
    if behind {
        connection.input().read_exact(&mut vec![0; 10_000])?;
        thread::sleep(Duration::from_millis(50));
    }
    let cut = Cut::off(lab, server)?;
    drop(deaf);
    let told = is_reset(&mut connection)?;
    drop(cut);
    usable(lab, server)?;
    Ok(format!(
        "reset {} ms after {server} was cut off",
        told.as_millis()
    ))
}

/// A request that a server thinks about, and which one it is.
fn asked(lab: &Lab, method: &str, mark: &str) -> anyhow::Result<(Connection, &'static str)> {
    for server in SERVERS {
        usable(lab, server)?;
    }
    let adopted = |server| {
        let series = "baton_packets_total{role=\"backend\",verdict=\"adopted\",reason=\"bind\"}";
        lab.counter(server, series)
    };
    let before = SERVERS.map(adopted);
    let mut connection = Connection::to_vip(lab)?;
    let mut request = Request::new(method, format!("/late?ms={THINKING_MS}&{mark}"));
    if method == "POST" {
        request = request.header("Content-Length", "0");
    }
    connection.send(&request)?;
    let mut found = None;
    wait_until("a server has the request", PATIENCE, || {
        for (server, before) in SERVERS.iter().zip(&before) {
            let before = before
                .as_ref()
                .map_err(|error| anyhow::anyhow!("{error:#}"))?;
            if adopted(server)? > *before {
                found = Some(*server);
            }
        }
        Ok(found.is_some())
    })?;
    Ok((connection, found.context("no server has it")?))
}

/// The same, of a GET that was sent so often that the kernel has bound it by itself.
fn asked_by_kernel(lab: &Lab) -> anyhow::Result<(Connection, &'static str)> {
    const OFTEN: usize = 8; // seen, taught, known; and again, should the rules change meanwhile
    for _ in 0..OFTEN {
        let before = lab.counter(PROXY, KNOWN_FIRST)?;
        let (connection, first) = asked(lab, "GET", "case=h8-known")?;
        if lab.counter(PROXY, KNOWN_FIRST)? > before {
            return Ok((connection, first));
        }
    }
    anyhow::bail!("the kernel has decided none of {OFTEN} equal requests")
}

/// A reset comes, and soon; bytes may come before it.
fn is_reset(connection: &mut Connection) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let mut bytes = vec![0; 1 << 16];
    loop {
        match connection.input().read(&mut bytes) {
            Ok(0) => anyhow::bail!("the connection ended as if all had come"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error).context("no reset"),
        }
    }
    ensure!(
        start.elapsed() < AT_ONCE,
        "reset only after {:?}",
        start.elapsed()
    );
    Ok(start.elapsed())
}

/// Waits until the proxy uses the server.
fn usable(lab: &Lab, server: &str) -> anyhow::Result<()> {
    wait_until(&format!("{server} is usable"), PATIENCE, || {
        Ok(super::offers::standing(lab, server)?["state"] == "usable")
    })
}

/// A host without network, until it is dropped.
struct Cut<'a> {
    lab: &'a Lab,
    port: String,
}

impl<'a> Cut<'a> {
    fn off(lab: &'a Lab, host: &str) -> anyhow::Result<Self> {
        let port = format!("v-{host}");
        lab.netns("switch").ip(&format!("link set {port} down"))?;
        Ok(Self { lab, port })
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        let port = &self.port;
        if let Err(error) = self.lab.netns("switch").ip(&format!("link set {port} up")) {
            eprintln!("{port} stays down: {error:#}");
        }
    }
}
