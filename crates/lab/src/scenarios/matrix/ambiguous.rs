//! Section 2: messages that two parsers might read differently. Each is refused, or is executed as what it was routed as: the servers' logs
//! say which.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, ensure};

use super::Ground;
use super::rotation::logged_exactly;
use crate::client::{Answer, Connection, NO_SERVER, Request};
use crate::cluster::{Lab, POOLS};
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

/// Name, verdict and message in each line; the same that the parser's own tests have.
const CORPUS: &str = include_str!("../../../../packet/tests/corpus/heads.txt");

/// Longer bodies are not sent.
const MOST: u64 = 1000;

pub(super) fn cases(recorder: &mut Recorder, ground: &mut Ground<'_>) -> anyhow::Result<()> {
    recorder.case("2/ambiguous-refused", |counts| {
        refused(ground.lab()?, counts)
    })?;
    recorder.case("2/ambiguous-accepted", |counts| {
        accepted(ground.lab()?, counts)
    })
}

struct Case<'a> {
    name: &'a str,
    verdict: Vec<&'a str>,
    message: Vec<u8>,
}

fn corpus() -> impl Iterator<Item = Case<'static>> {
    CORPUS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut parts = line.splitn(3, " | ");
            Some(Case {
                name: parts.next()?,
                verdict: parts.next()?.split(' ').collect(),
                message: unescape(parts.next()?),
            })
        })
}

/// The proxy answers each itself, with an error, and no server sees anything of it.
fn refused(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    executes(lab, "refused", |lab| {
        let mut sent = 0;
        for case in corpus().filter(|case| case.verdict[0] == "refuse") {
            let answer = ask(lab, counts, &case)?;
            ensure!(
                answer.server() == NO_SERVER && (400..600).contains(&answer.status),
                "{}: {} from {}",
                case.name,
                answer.status,
                answer.server()
            );
            sent += 1;
        }
        Ok((Vec::new(), format!("{sent} messages refused")))
    })
}

/// One server executes each once, and nothing else that it may be taken for.
fn accepted(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    executes(lab, "accepted", |lab| {
        let mut lines = Vec::new();
        for case in corpus().filter(|case| case.verdict[0] == "ok") {
            let mut message = case.message.clone();
            match (case.verdict.get(4).copied(), case.verdict.get(5)) {
                (Some("tunnel"), _) => continue,
                (Some("chunked"), _) => message.extend(b"0\r\n\r\n"),
                (Some(body), Some(head)) => {
                    let Ok(body @ 0..=MOST) = body.parse() else {
                        continue;
                    };
                    // All of the body, and nothing behind it.
                    message.resize(head.parse::<usize>()? + body as usize, b'x');
                }
                _ => continue,
            }
            let line = String::from_utf8_lossy(&message);
            lines.push(
                line.trim_start()
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            );
            let answer = ask(lab, counts, &Case { message, ..case })?;
            ensure!(
                answer.server() != NO_SERVER,
                "{:?} was refused",
                lines.last()
            );
        }
        let told = format!("{} messages executed", lines.len());
        Ok((lines, told))
    })
}

/// Runs `case`, which tells what the servers must have executed: they have, and nothing else.
fn executes(
    lab: &mut Lab,
    mark: &str,
    case: impl FnOnce(&mut Lab) -> anyhow::Result<(Vec<String>, String)>,
) -> anyhow::Result<String> {
    let before: Vec<usize> = SERVERS
        .iter()
        .map(|server| Ok(log(lab, server)?.len()))
        .collect::<anyhow::Result<_>>()?;
    let (lines, told) = case(lab)?;
    // A last request to each server, by whose log line what came before is there too.
    let mark = format!("case=ambiguous-{mark}");
    for (server, pool) in SERVERS.iter().zip(POOLS) {
        for _ in 0..WORKERS {
            let request = Request::new("GET", format!("/{pool}/whoami?{mark}"));
            Connection::to_vip(lab)?.ask(&request)?;
        }
        logged_exactly(lab, server, &mark, WORKERS)?;
    }
    let mut balance: BTreeMap<String, i32> = BTreeMap::new();
    for line in lines {
        *balance.entry(line).or_default() += 1;
    }
    for (server, before) in SERVERS.iter().zip(before) {
        for line in log(lab, server)?.split_off(before) {
            let request = line.split('"').nth(1).unwrap_or_default();
            if !request.contains(&mark) {
                *balance.entry(request.to_owned()).or_default() -= 1;
            }
        }
    }
    balance.retain(|_, times| *times != 0);
    ensure!(
        balance.is_empty(),
        "not executed (positive) or not asked for (negative): {balance:?}"
    );
    Ok(told)
}

/// Connections that are enough to reach each worker of a server; each writes its own log lines, in order.
const WORKERS: usize = 8;

fn log(lab: &Lab, server: &str) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(lab.dir(server).join("access.log"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn ask(lab: &Lab, counts: &mut Counts, case: &Case<'_>) -> anyhow::Result<Answer> {
    counts.transfers += 1;
    let mut connection = Connection::to_vip(lab)?;
    let method = if case.message.starts_with(b"HEAD") {
        "HEAD"
    } else {
        "GET"
    };
    // What is refused may be before all is written.
    let _ = connection.write(&case.message);
    connection
        .answer(method)
        .inspect_err(|_| counts.failed += 1)
        .with_context(|| case.name.to_owned())
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match (next, next == '\\') {
            (_, true) => match rest.next() {
                Some('r') => bytes.push(b'\r'),
                Some('n') => bytes.push(b'\n'),
                Some('t') => bytes.push(b'\t'),
                Some('x') => {
                    let digits: String = rest.by_ref().take(2).collect();
                    bytes.extend(u8::from_str_radix(&digits, 16));
                }
                other => bytes.extend(other.map(|other| other as u8)),
            },
            (plain, false) => bytes.push(plain as u8),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_read() {
        assert!(corpus().count() > 100);
        let tls = corpus().find(|case| case.name == "tls, first byte");
        assert_eq!(tls.map(|case| case.message), Some(vec![0x16]));
    }
}
