//! Section 2: connections that one side ends, in the middle and in between.

use std::io::{BufRead, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use socket2::SockRef;

use super::Ground;
use super::rotation::{logged, no_dead_sockets};
use crate::client::{Connection, Expected, Request};
use crate::cluster::{Lab, Mechanism, POOLS, SPARSE, wait_until};
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

/// "Within seconds."
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    for (name, together) in [("fin-apart", false), ("fin-with-request", true)] {
        recorder.case(&format!("2/half-close/{name}"), |counts| {
            half_close(ground.lab()?, counts, together)
        })?;
    }
    recorder.case("2/client-abort", |_| client_abort(ground.lab()?))?;
    recorder.case("2/server-closes", |counts| {
        server_closes(ground.lab()?, counts)
    })?;
    recorder.case("2/until-close", |counts| until_close(ground.lab()?, counts))?;
    recorder.case("2/server-keepalive-timeout", |counts| {
        let lab = ground.lab()?;
        match lab.options.mechanism {
            Mechanism::Handoff => seen_by_client(lab, counts, if short { 40 } else { 200 }),
            Mechanism::Relay => hidden_from_client(lab, counts),
        }
    })
}

/// A client that has said all it wants to say still gets the answer, then the server's end.
fn half_close(lab: &mut Lab, counts: &mut Counts, together: bool) -> anyhow::Result<String> {
    for (number, name) in ["1KB", "unique", "1KB"].into_iter().enumerate() {
        let server = SERVERS[number];
        let file = match name {
            "unique" => lab.unique(server)?,
            _ => lab.content.file(name)?,
        };
        for earlier in [None, Some(POOLS[(number + 1) % 3])] {
            let mut connection = Connection::to_vip(lab)?;
            if let Some(pool) = earlier {
                let answer = connection.ask(&Request::new("GET", format!("/{pool}/whoami")));
                counts.check(answer, &Expected::status(200, SERVERS[(number + 1) % 3]))?;
            }
            if together {
                // Held back until the end, which then goes in the same segment.
                SockRef::from(connection.stream()).set_tcp_cork(true)?;
            }
            connection.send(&Request::new("GET", format!("/{}/{name}", POOLS[number])))?;
            connection.stream().shutdown(Shutdown::Write)?;
            counts.check(connection.answer("GET"), &Expected::file(server, &file))?;
            ended(&mut connection)?;
        }
    }
    no_dead_sockets(lab)?;
    Ok("whole answers, on new and on used connections; no socket left".into())
}

/// Nothing more comes but the end: in order, or by a reset.
fn ended(connection: &mut Connection) -> anyhow::Result<()> {
    match connection.input().fill_buf() {
        Ok([]) => Ok(()),
        Ok(_) => bail!("more came instead of the end"),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error).context("the connection does not end"),
    }
}

/// Downloads that are given up: the server's log tells soon that they were.
fn client_abort(lab: &mut Lab) -> anyhow::Result<String> {
    for (number, server) in SERVERS.iter().enumerate() {
        let mark = format!("case=client-abort-{number}");
        let mut connection = Connection::to_vip(lab)?;
        let path = format!("/{}/{}?{mark}", POOLS[number], SPARSE.0);
        connection.send(&Request::new("GET", path))?;
        let mut some = vec![0; 1_000_000];
        connection.input().read_exact(&mut some)?;
        ensure!(
            logged(lab, server, &mark)?.is_empty(),
            "it had ended before"
        );
        // With bytes unread: a reset.
        drop(connection);
        wait_until(&format!("{server} has noticed"), PATIENCE, || {
            Ok(!logged(lab, server, &mark)?.is_empty())
        })?;
        let line = logged(lab, server, &mark)?.concat();
        let sent: u64 = line.rsplit(' ').next().unwrap_or_default().parse()?;
        ensure!(sent < SPARSE.1, "the server has sent all: {line}");
    }
    no_dead_sockets(lab)?;
    Ok("three servers gave up in the middle; no socket left".into())
}

/// Each answer says `Connection: close`, and the connection ends; others go on, and new ones begin.
fn server_closes(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let small = lab.content.file("1KB")?;
    let mut other = Connection::to_vip(lab)?;
    let rounds = 30;
    for round in 0..rounds {
        let (here, there) = (round % 3, (round + 1) % 3);
        let mut connection = Connection::to_vip(lab)?;
        // On a new connection, or behind a request at another server.
        if round % 2 == 0 {
            let answer = connection.ask(&Request::new("GET", format!("/{}/1KB", POOLS[there])));
            counts.check(answer, &Expected::file(SERVERS[there], &small))?;
        }
        let last = connection.ask(&Request::new(
            "GET",
            format!("/{}/closing/1KB", POOLS[here]),
        ));
        let last = counts.check(last, &Expected::file(SERVERS[here], &small))?;
        if lab.options.mechanism == Mechanism::Handoff {
            ensure!(
                last.header("Connection") == Some("close"),
                "the server does not say that it closes"
            );
            ended(&mut connection)?;
        }
        let answer = other.ask(&Request::new("GET", format!("/{}/1KB", POOLS[here])));
        counts.check(answer, &Expected::file(SERVERS[here], &small))?;
    }
    Ok(format!(
        "{rounds} connections ended by their server; another one was at each of them all the time"
    ))
}

/// An answer without a length ends with the connection. A request for another server that came in between is not answered, as on a direct
/// connection: what comes is the end, and soon.
fn until_close(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    for impatient in [false, true] {
        for (place, server) in SERVERS.into_iter().enumerate() {
            let (pool, other) = (POOLS[place], POOLS[(place + 1) % 3]);
            let mut connection = Connection::to_vip(lab)?;
            let head = format!("GET /{pool}/events?count=5&ms=100 HTTP/1.0\r\n\r\n");
            connection.write(head.as_bytes())?;
            let head = connection.head()?;
            ensure!(
                (head.status, head.server(), head.header("Content-Length")) == (200, server, None),
                "not the answer that was asked for: {head:?}"
            );
            if impatient {
                let next = format!("GET /{other}/whoami HTTP/1.1\r\nHost: x\r\n\r\n");
                connection.write(next.as_bytes())?;
            }
            let (start, mut body) = (Instant::now(), Vec::new());
            let read = connection.input().read_to_end(&mut body);
            counts.transfers += 1;
            ensure!(
                read.is_ok() || impatient,
                "no orderly end: {:?}",
                read.err()
            );
            let events = body.split(|byte| *byte == b'\n');
            let events = events.filter(|line| line.starts_with(b"data: ")).count();
            ensure!(events == 5, "{events} events of 5");
            ensure!(start.elapsed() < PATIENCE, "the end came late");
        }
    }
    Ok("whole answers and their ends, also behind the back of an impatient client".into())
}

/// The server's end reaches the client as on a direct connection. Requests that are sent just then are answered rightly, or (as there)
/// not at all and not executed.
fn seen_by_client(lab: &mut Lab, counts: &mut Counts, tries: u64) -> anyhow::Result<String> {
    let (vip, direct) = (lab.vip(), lab.direct(SERVERS[0])?);
    let (ours, theirs) = (
        idle_until_closed(lab, vip)?,
        idle_until_closed(lab, direct)?,
    );
    ensure!(
        ours.abs_diff(theirs) < Duration::from_millis(1500),
        "closed after {ours:?}, on a direct connection after {theirs:?}"
    );
    let mark = "case=keepalive-race";
    let outcomes = thread::scope(|scope| {
        let lab = &*lab;
        let start = Instant::now();
        let tries: Vec<_> = (0..tries)
            .map(|number| scope.spawn(move || race(lab, mark, start, number, tries)))
            .collect();
        let joined = tries.into_iter().map(|one| one.join());
        joined
            .map(|one| one.unwrap_or_else(|_| bail!("a thread broke")))
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    let answered = outcomes.iter().filter(|answered| **answered).count();
    counts.transfers += tries;
    // What was executed is in the log by then: each of nginx's workers writes every 100 ms.
    thread::sleep(Duration::from_millis(500));
    let executed = logged(lab, SERVERS[1], mark)?.len();
    ensure!(
        executed == answered,
        "{executed} requests executed, {answered} answered"
    );
    Ok(format!(
        "closed after {:.1} s, directly {:.1} s; of {tries} requests at that moment {answered} answered, the others not executed",
        ours.as_secs_f64(),
        theirs.as_secs_f64()
    ))
}

/// How long a connection that was used once is kept.
fn idle_until_closed(lab: &Lab, to: SocketAddr) -> anyhow::Result<Duration> {
    let mut connection = hasty(lab, to)?;
    let start = Instant::now();
    ended(&mut connection)?;
    Ok(start.elapsed())
}

/// A connection that the server closes a second from now.
fn hasty(lab: &Lab, to: SocketAddr) -> anyhow::Result<Connection> {
    let mut connection = lab.netns("client").inside(|| Connection::open(to))?;
    let answer = connection.ask(&Request::new("GET", "/a/hasty/1KB"))?;
    ensure!(answer.status == 200, "status {}", answer.status);
    Ok(connection)
}

/// Sends a request for another server around the moment when the first closes. Whether it was answered, rightly; if not, the
/// connection has ended.
fn race(lab: &Lab, mark: &str, start: Instant, number: u64, tries: u64) -> anyhow::Result<bool> {
    let mut connection = hasty(lab, lab.vip())?;
    // nginx closes between 1 and 1.1 s after the answer.
    let at = Duration::from_millis(950 + 200 * number / tries);
    thread::sleep(at);
    if connection
        .send(&Request::new("GET", format!("/b/whoami?{mark}")))
        .is_err()
    {
        return Ok(false);
    }
    match connection.answer("GET") {
        Ok(answer) => {
            Expected::status(200, SERVERS[1])
                .bytes(b"backend2\n")
                .compare(&answer)
                .map_err(|wrong| anyhow::anyhow!("{wrong:?}"))?;
            Ok(true)
        }
        Err(_) if start.elapsed() < PATIENCE => Ok(false),
        Err(error) => Err(error).context("silence"),
    }
}

/// A relay keeps the client's connection and opens another one to the server.
fn hidden_from_client(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let mut connection = Connection::to_vip(lab)?;
    for pause_ms in [0, 900, 950, 1000, 1050, 1100, 2000] {
        thread::sleep(Duration::from_millis(pause_ms));
        let answer = connection.ask(&Request::new("GET", "/a/hasty/1KB"));
        counts.check(
            answer,
            &Expected::file(SERVERS[0], &lab.content.file("1KB")?),
        )?;
    }
    Ok("the client's connection stays, and every request on it is answered".into())
}
