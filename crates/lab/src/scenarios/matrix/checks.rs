//! 7: a web server that fails its check gets no requests, and no connection is lost for it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::Ground;
use crate::client::{Connection, Expected, Request};
use crate::cluster::{Lab, wait_until};
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

const PATIENCE: Duration = Duration::from_secs(20);
/// Enough that each of three servers is asked.
const REQUESTS: usize = 12;
const CHECK: &str =
    "name = \"all\"\ncheck = { path = \"/unique\", interval_ms = 200, rise = 2, fall = 2 }\n";

pub(super) fn cases(recorder: &mut Recorder, ground: &mut Ground<'_>) -> anyhow::Result<()> {
    recorder.case("7/check-http", |counts| check_http(ground.lab()?, counts))
}

fn check_http(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    for node in lab.nodes() {
        let text = lab.configuration(&node.name)?;
        lab.run_with(&node.name, &text.replacen("name = \"all\"\n", CHECK, 1))?;
    }
    let mut kept = Connection::to_vip(lab)?;
    let all: BTreeSet<String> = SERVERS.iter().map(|server| (*server).to_owned()).collect();
    wait_until("all servers are asked", PATIENCE, || {
        Ok(asked(lab, counts, &mut kept)? == all)
    })?;
    let away = Away::new(lab, SERVERS[1])?;
    let left: BTreeSet<String> = [SERVERS[0], SERVERS[2]].map(str::to_owned).into();
    wait_until("the failing server is asked no more", PATIENCE, || {
        Ok(asked(lab, counts, &mut kept)? == left)
    })?;
    drop(away);
    wait_until("it is asked again", PATIENCE, || {
        Ok(asked(lab, counts, &mut kept)? == all)
    })?;
    for node in lab.nodes() {
        let text = lab.configuration(&node.name)?;
        lab.run_with(&node.name, &text)?;
    }
    Ok(format!(
        "{} got no requests while its check failed; the connection that was kept went elsewhere and back",
        SERVERS[1]
    ))
}

/// What is checked is not there.
struct Away(PathBuf);

impl Away {
    fn new(lab: &Lab, server: &str) -> anyhow::Result<Self> {
        let path = lab.dir(server).join("unique");
        fs::rename(&path, path.with_extension("away"))?;
        Ok(Self(path))
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let _ = fs::rename(self.0.with_extension("away"), &self.0);
    }
}

/// Who answers, on new connections and on the one that is kept.
fn asked(
    lab: &Lab,
    counts: &mut Counts,
    kept: &mut Connection,
) -> anyhow::Result<BTreeSet<String>> {
    let mut servers = BTreeSet::new();
    for _ in 0..REQUESTS {
        for connection in [&mut *kept, &mut Connection::to_vip(lab)?] {
            let answer = connection.ask(&Request::new("GET", "/whoami"));
            let server = answer.as_ref().map_or("", |answer| answer.server());
            let (name, server) = (format!("{server}\n"), server.to_owned());
            let expected = Expected::status(200, &server).bytes(name.as_bytes());
            counts.check(answer, &expected)?;
            servers.insert(server);
        }
    }
    Ok(servers)
}
