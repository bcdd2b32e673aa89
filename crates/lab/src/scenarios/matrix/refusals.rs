//! Section 2: requests that no server can have get the right error, and never silence.

use std::time::Duration;

use super::edit::without_default;
use super::{Ground, PROXY};
use crate::client::{Connection, Expected, NO_SERVER, Request};
use crate::cluster::{Lab, Mechanism, wait_until};
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

/// For a server that has gone to be noticed.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn cases(recorder: &mut Recorder, ground: &mut Ground<'_>) -> anyhow::Result<()> {
    recorder.case("2/head-64KB", |counts| {
        let padding = "x".repeat(64 << 10);
        let head = format!("GET /a/1KB HTTP/1.1\r\nHost: x\r\nX-Padding: {padding}\r\n\r\n");
        refused(ground.lab()?, counts, head.as_bytes(), 431)
    })?;
    recorder.case("2/garbage", |counts| {
        let lab = ground.lab()?;
        for garbage in [
            &b"\x16\x03\x01\x02\x00\x01\x00"[..],
            b"\r\n\r\n\0\r\nQUIT\n",
            b"?",
        ] {
            // The last may still become a method: the client says that it will not.
            let mut connection = Connection::to_vip(lab)?;
            let _ = connection.write(garbage);
            let _ = connection.write(b" \r\n\r\n");
            let expected = Expected::status(400, NO_SERVER);
            counts.check(connection.answer("GET"), &expected)?;
        }
        Ok("400 each time".into())
    })?;
    recorder.case("2/unknown-host", |counts| {
        let lab = ground.lab()?;
        let usual = lab.configuration(PROXY)?;
        let by_host = usual.replace(
            "[[route]]\npath_prefix",
            "[[route]]\nhost = \"known.example\"\npath_prefix",
        );
        let told = unknown_host(lab, counts, &by_host);
        lab.run_with(PROXY, &usual)?;
        told
    })?;
    // A relay's servers have no agents: it asks them, and says 502.
    if ground.mechanism() == Mechanism::Handoff {
        recorder.case("2/no-live-server", |counts| {
            no_live_server(ground.lab()?, counts)
        })?;
    }
    Ok(())
}

fn unknown_host(lab: &mut Lab, counts: &mut Counts, by_host: &str) -> anyhow::Result<String> {
    lab.run_with(PROXY, by_host)?;
    let file = lab.content.file("1KB")?;
    let ask = |lab: &Lab, host: &str| {
        let request = format!("GET /a/1KB HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut connection = Connection::to_vip(lab)?;
        connection.write(request.as_bytes())?;
        connection.answer("GET")
    };
    let known = Expected::file(SERVERS[0], &file);
    counts.check(ask(lab, "known.example"), &known)?;
    let other = ask(lab, "unknown.example")?;
    counts.check(Ok(other.clone()), &Expected::file(other.server(), &file))?;
    lab.run_with(PROXY, &without_default(by_host))?;
    counts.check(ask(lab, "known.example"), &known)?;
    let expected = Expected::status(404, NO_SERVER);
    counts.check(ask(lab, "unknown.example"), &expected)?;
    Ok("the default pool, and 404 without one".into())
}

fn no_live_server(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let agent = SERVERS[0];
    lab.stop_node(agent)?;
    let gone = || {
        let answer = Connection::to_vip(lab)?.ask(&Request::new("GET", "/a/whoami"));
        Ok(answer.is_ok_and(|answer| answer.status == 503))
    };
    let refused = wait_until(
        "a request for a pool without servers gets 503",
        PATIENCE,
        gone,
    );
    let other = Connection::to_vip(lab)?.ask(&Request::new("GET", "/b/whoami"));
    lab.launch(agent)?;
    lab.ready(agent)?;
    refused?;
    counts.check(other, &Expected::status(200, SERVERS[1]))?;
    let back = || {
        let answer = Connection::to_vip(lab)?.ask(&Request::new("GET", "/a/whoami"));
        Ok(answer.is_ok_and(|answer| answer.status == 200))
    };
    wait_until("its server is back", PATIENCE, back)?;
    Ok("503 as long as its only server is out, 200 from another pool".into())
}

fn refused(lab: &Lab, counts: &mut Counts, bytes: &[u8], status: u16) -> anyhow::Result<String> {
    let mut connection = Connection::to_vip(lab)?;
    // What is refused may be before all is written.
    let _ = connection.write(bytes);
    counts.check(
        connection.answer("GET"),
        &Expected::status(status, NO_SERVER),
    )?;
    Ok(format!("{status} from the proxy itself"))
}
