//! 5.1: GET of several sizes, HEAD, ranges, 304.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, ensure};

use super::{Place, complete};
use crate::client::{Expected, Plan, Request, curl, fetch, url};
use crate::cluster::{Lab, POOLS};
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

const ITEM: &str = "5.1";

pub(super) fn cases(recorder: &mut Recorder, place: &mut Place<'_, '_>) -> anyhow::Result<()> {
    for (number, file) in place.path.get.clone().into_iter().enumerate() {
        recorder.case(&place.case_name(ITEM, &format!("get-{file}")), |counts| {
            get(place.lab()?, counts, number % 3, file)
        })?;
    }
    recorder.case(&place.case_name(ITEM, "head"), |counts| {
        head(place.lab()?, counts)
    })?;
    for (name, range, first, length) in [
        ("range-middle", "1000-1999", 1000, 1000),
        ("range-to-end", "999000-", 999_000, 1000),
        ("range-last", "-500", 999_500, 500),
        ("range-large", "1-900000", 1, 900_000),
    ] {
        recorder.case(&place.case_name(ITEM, name), |counts| {
            single_range(place.lab()?, counts, range, first, length)
        })?;
    }
    recorder.case(&place.case_name(ITEM, "range-several"), |counts| {
        several_ranges(place.lab()?, counts)
    })?;
    recorder.case(&place.case_name(ITEM, "range-unsatisfiable"), |counts| {
        let lab = place.lab()?;
        let answer = curl(lab, &url(lab.vip(), "/a/1MB"), &["-r", "2000000-"]);
        let answer = counts.check(answer, &Expected::status(416, SERVERS[0]))?;
        Ok(format!("416 with {} bytes of explanation", answer.bytes))
    })?;
    recorder.case(&place.case_name(ITEM, "not-modified"), |counts| {
        not_modified(place.lab()?, counts)
    })
}

pub(super) fn get(
    lab: &mut Lab,
    counts: &mut Counts,
    pool: usize,
    file: &str,
) -> anyhow::Result<String> {
    let expected = lab.content.file(file)?;
    let answer = curl(
        lab,
        &url(lab.vip(), &format!("/{}/{file}", POOLS[pool])),
        &[],
    );
    let answer = counts.check(answer, &Expected::file(SERVERS[pool], &expected))?;
    Ok(format!(
        "{}: {} bytes in {:.3} s",
        answer.server(),
        answer.bytes,
        answer.seconds
    ))
}

/// HEAD has a length and no body; the requests after it, at another and at the same server, are in step.
fn head(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let large = lab.content.file("1MB")?;
    let small = lab.content.file("1KB")?;
    let requests = vec![
        Request::new("HEAD", "/a/1MB"),
        Request::new("GET", "/b/1KB"),
        Request::new("HEAD", "/b/1MB"),
        Request::new("GET", "/b/1MB"),
    ];
    let expected = [
        Expected::status(200, SERVERS[0]).bytes(&[]),
        Expected::file(SERVERS[1], &small),
        Expected::status(200, SERVERS[1]).bytes(&[]),
        Expected::file(SERVERS[1], &large),
    ];
    let answers = complete(fetch(
        lab,
        &Plan {
            to: lab.vip(),
            requests,
        },
    )?)?;
    let length = answers[0]
        .header("Content-Length")
        .unwrap_or_default()
        .to_owned();
    for (answer, expected) in answers.into_iter().zip(&expected) {
        counts.check(Ok(answer), expected)?;
    }
    ensure!(
        length == large.bytes.to_string(),
        "Content-Length is {length:?}"
    );
    Ok("lengths without bodies, and the next requests in step".into())
}

fn single_range(
    lab: &mut Lab,
    counts: &mut Counts,
    range: &str,
    first: u64,
    length: usize,
) -> anyhow::Result<String> {
    let expected = Expected::status(206, SERVERS[2]).bytes(&part(lab, first, length)?);
    let answer = curl(lab, &url(lab.vip(), "/c/1MB"), &["-r", range]);
    let answer = counts.check(answer, &expected)?;
    Ok(answer
        .header("Content-Range")
        .unwrap_or_default()
        .to_owned())
}

/// Two ranges come as parts of a multipart body; its boundary is nginx's to choose and stands in the header.
fn several_ranges(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let url = url(lab.vip(), "/a/1MB");
    let saved = lab.dir("client").join("ranges");
    let saved_name = saved.display().to_string();
    let answer = curl(lab, &url, &["-r", "0-99,5000-5199", "-o", &saved_name]);
    let answer = counts.check(answer, &Expected::status(206, SERVERS[0]))?;
    let kind = answer.header("Content-Type").unwrap_or_default();
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .with_context(|| format!("Content-Type is {kind:?}"))?;
    let mut expected = Vec::new();
    for (range, first, length) in [("0-99", 0, 100), ("5000-5199", 5000, 200)] {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/1000000\r\n\r\n"
        );
        expected.extend(head.into_bytes());
        expected.extend(part(lab, first, length)?);
    }
    expected.extend(format!("\r\n--{boundary}--\r\n").into_bytes());
    if std::fs::read(&saved)? != expected {
        counts.wrong_bytes += 1;
        anyhow::bail!("the parts are not as expected");
    }
    Ok("two parts".into())
}

/// 304 has no body; the request after it is in step.
fn not_modified(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let file = lab.content.file("1MB")?;
    let first = curl(lab, &url(lab.vip(), "/a/1MB"), &[]);
    let first = counts.check(first, &Expected::file(SERVERS[0], &file))?;
    let tag = first.header("ETag").context("no ETag")?;
    let since = first.header("Last-Modified").context("no Last-Modified")?;
    let requests = vec![
        Request::new("GET", "/a/1MB").header("If-None-Match", tag),
        Request::new("GET", "/b/1MB").header("If-Modified-Since", since),
        Request::new("GET", "/c/1MB"),
    ];
    let expected = [
        Expected::status(304, SERVERS[0]).bytes(&[]),
        Expected::status(304, SERVERS[1]).bytes(&[]),
        Expected::file(SERVERS[2], &file),
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
    Ok("304 by tag and by date, and the next request in step".into())
}

/// Bytes of the file `1MB`.
fn part(lab: &mut Lab, first: u64, length: usize) -> anyhow::Result<Vec<u8>> {
    let mut file = File::open(lab.content.file("1MB")?.path)?;
    let mut part = vec![0; length];
    file.seek(SeekFrom::Start(first))?;
    file.read_exact(&mut part)?;
    Ok(part)
}
