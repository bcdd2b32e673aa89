//! 5.2: PUT and POST of several sizes, `Expect: 100-continue`, chunked.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};

use super::{Place, complete};
use crate::client::{Answer, Expected, Plan, Request, curl, fetch, url};
use crate::cluster::{File, Lab, POOLS, digest};
use crate::origin::Received;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

const ITEM: &str = "5.2";
/// curl waits for 100 of its own accord above 1 MB: not in the cases that are about something else.
pub(in crate::scenarios) const NO_EXPECT: &str = "Expect:";

pub(super) fn cases(recorder: &mut Recorder, place: &mut Place<'_, '_>) -> anyhow::Result<()> {
    for (number, file) in place.path.put.clone().into_iter().enumerate() {
        let pool = number % 3;
        recorder.case(&place.case_name(ITEM, &format!("put-{file}")), |counts| {
            let lab = place.lab()?;
            put(lab, counts, lab.vip(), pool, file, &[NO_EXPECT]).map(|answer| told(&answer))
        })?;
        recorder.case(&place.case_name(ITEM, &format!("post-{file}")), |counts| {
            post(place.lab()?, counts, (pool + 1) % 3, file, &[NO_EXPECT])
        })?;
    }
    recorder.case(&place.case_name(ITEM, "expect-continue"), |counts| {
        let lab = place.lab()?;
        let answer = put(lab, counts, lab.vip(), 0, "1MB", &["Expect: 100-continue"])?;
        ensure!(answer.interim.contains(&100), "no 100 Continue came");
        Ok(format!("{}, and said 100 Continue first", told(&answer)))
    })?;
    recorder.case(&place.case_name(ITEM, "chunked-put"), |counts| {
        let lab = place.lab()?;
        put(
            lab,
            counts,
            lab.vip(),
            1,
            "1MB",
            &["Transfer-Encoding: chunked", NO_EXPECT],
        )
        .map(|answer| told(&answer))
    })?;
    recorder.case(&place.case_name(ITEM, "chunked-post"), |counts| {
        post(
            place.lab()?,
            counts,
            2,
            "1MB",
            &["Transfer-Encoding: chunked", NO_EXPECT],
        )
    })?;
    recorder.case(&place.case_name(ITEM, "put-then-others"), |counts| {
        put_then_others(place.lab()?, counts)
    })
}

/// nginx stores the body; what counts is what it stored.
pub(in crate::scenarios) fn put(
    lab: &mut Lab,
    counts: &mut Counts,
    to: SocketAddr,
    pool: usize,
    file: &str,
    headers: &[&str],
) -> anyhow::Result<Answer> {
    let file = lab.content.file(file)?;
    let path = format!("/{}/put/upload", POOLS[pool]);
    let source = file.path.display().to_string();
    let mut arguments = vec!["-T", source.as_str()];
    headers
        .iter()
        .for_each(|header| arguments.extend(["-H", header]));
    let answer = curl(lab, &url(to, &path), &arguments);
    let answer = counts.check(answer, &Expected::status(201, SERVERS[pool]));
    let stored = lab.dir(SERVERS[pool]).join(&path[1..]);
    let found = fs::File::open(&stored).and_then(|mut stored| digest(&mut stored));
    let _ = fs::remove_file(&stored);
    let answer = answer?;
    if found.context("nothing was stored")? != (file.bytes, file.sha256) {
        counts.wrong_bytes += 1;
        bail!("{} stored other bytes", SERVERS[pool]);
    }
    Ok(answer)
}

fn told(answer: &Answer) -> String {
    format!(
        "{} has all bytes after {:.3} s",
        answer.server(),
        answer.seconds
    )
}

/// The server answers with the hash of what it got.
fn post(
    lab: &mut Lab,
    counts: &mut Counts,
    pool: usize,
    file: &str,
    headers: &[&str],
) -> anyhow::Result<String> {
    let file = lab.content.file(file)?;
    let source = file.path.display().to_string();
    let mut arguments = vec!["-X", "POST", "-T", source.as_str()];
    headers
        .iter()
        .for_each(|header| arguments.extend(["-H", header]));
    let received = Received {
        method: "POST".into(),
        bytes: file.bytes,
        sha256: file.sha256,
    };
    let expected = Expected::status(200, SERVERS[pool]).bytes(&serde_json::to_vec(&received)?);
    let answer = curl(
        lab,
        &url(lab.vip(), &format!("/{}/echo", POOLS[pool])),
        &arguments,
    );
    counts.check(answer, &expected).map(|answer| told(&answer))
}

/// The next request begins exactly where a body ends: at other servers, with and without bodies, on one connection.
fn put_then_others(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let (small, large) = (lab.content.file("1KB")?, lab.content.file("1MB")?);
    let echoed = |file: &File| {
        let received = Received {
            method: "POST".into(),
            bytes: file.bytes,
            sha256: file.sha256.clone(),
        };
        serde_json::to_vec(&received)
    };
    let requests = vec![
        Request::new("POST", "/a/echo").body(large.path.clone()),
        Request::new("GET", "/b/1KB"),
        Request::new("POST", "/c/echo").body(small.path.clone()),
        Request::new("POST", "/a/echo").body(large.path.clone()),
        Request::new("GET", "/a/1MB"),
    ];
    let expected = [
        Expected::status(200, SERVERS[0]).bytes(&echoed(&large)?),
        Expected::file(SERVERS[1], &small),
        Expected::status(200, SERVERS[2]).bytes(&echoed(&small)?),
        Expected::status(200, SERVERS[0]).bytes(&echoed(&large)?),
        Expected::file(SERVERS[0], &large),
    ];
    for (answer, expected) in complete(fetch(
        lab,
        &Plan {
            to: lab.vip(),
            requests,
        },
    )?)?
    .into_iter()
    .zip(&expected)
    {
        counts.check(Ok(answer), expected)?;
    }
    Ok("five requests with and without bodies, three servers, one connection".into())
}
