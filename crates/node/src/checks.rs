//! Active checks of web servers: by their agents for handoff pools, by each proxy for relay pools. A task each; [`Checks`] has what they found.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use baton_policy::{Mechanism, PoolId, Streak};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::admin::{Sample, families};
use crate::backend::services_for;
use crate::config::{Check, Config};
use crate::context::Context;

/// The first line of an answer is no longer than this (bytes).
const LINE: usize = 1024;

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// The service of this machine for a VIP.
    Service(SocketAddr),
    /// A server, at its `http` address.
    Server(SocketAddr),
}

/// One check of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    subject: Subject,
    pool: PoolId,
    at: SocketAddr,
    host: String,
    check: Check,
}

/// What checks have found; clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Checks(Arc<Found>);

#[derive(Debug, Default)]
struct Found {
    /// By what is checked and for which pool.
    states: Mutex<BTreeMap<(Subject, PoolId), bool>>,
    passed: AtomicU64,
    failed: AtomicU64,
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Connection(#[from] std::io::Error),
    #[error("no answer within {} ms", .0.as_millis())]
    TimeOut(Duration),
    #[error("it answers with status {0}")]
    Status(u16),
    #[error("what it answers is not HTTP")]
    NotHttp,
}

impl Checks {
    /// The VIPs whose services here fail.
    pub(crate) fn failing_services(&self) -> BTreeSet<SocketAddr> {
        let states = self.states();
        let down = states.iter().filter(|(_, up)| !**up);
        down.filter_map(|((subject, _), _)| match subject {
            Subject::Service(vip) => Some(*vip),
            Subject::Server(_) => None,
        })
        .collect()
    }

    /// Whether the server at this `http` address fails the pool's check.
    pub(crate) fn fails(&self, http: SocketAddr, pool: PoolId) -> bool {
        let state = self.states().get(&(Subject::Server(http), pool)).copied();
        state == Some(false)
    }

    fn samples(&self) -> Vec<Sample> {
        let outcomes = [("passed", &self.0.passed), ("failed", &self.0.failed)];
        let mut samples: Vec<Sample> = outcomes
            .iter()
            .map(|(outcome, count)| {
                families::CHECKS.sample(&[("outcome", *outcome)], count.load(Relaxed))
            })
            .collect();
        let down = self.states().values().filter(|up| !**up).count();
        samples.push(families::CHECKS_DOWN.sample(&[], down as u64));
        samples
    }

    fn set(&self, target: &Target, up: bool) {
        self.states().insert((target.subject, target.pool), up);
    }

    fn keep(&self, targets: &[Target]) {
        let keys: BTreeSet<_> = targets.iter().map(|t| (t.subject, t.pool)).collect();
        self.states().retain(|key, _| keys.contains(key));
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<(Subject, PoolId), bool>> {
        self.0.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks until asked to stop.
pub(crate) async fn run(mut context: Context) {
    let checks = context.checks.clone();
    let mut running: Vec<Target> = Vec::new();
    let mut tasks = JoinSet::new();
    loop {
        let config = Arc::clone(&context.config.borrow_and_update());
        let targets = targets(&config);
        if targets != running {
            checks.keep(&targets);
            // Dropping them ends them; what they found stays.
            tasks = JoinSet::new();
            for target in targets.clone() {
                tasks.spawn(watch(target, checks.clone()));
            }
            let source = checks.clone();
            context.registry.ready("checks", move || source.samples());
            running = targets;
        }
        tokio::select! {
            () = context.stop.requested() => return,
            changed = context.config.changed() => if changed.is_err() { return },
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// What this node is to check.
fn targets(config: &Config) -> Vec<Target> {
    let mut targets = Vec::new();
    let pools = (0..).map(PoolId).zip(config.policy.pools());
    for ((id, pool), check) in pools.zip(&config.checks) {
        let Some(check) = check else { continue };
        let host = |name: &str| check.host.clone().unwrap_or_else(|| name.to_owned());
        let members = pool.members().iter();
        let servers = members.filter_map(|member| config.servers.get(usize::from(member.server.0)));
        for server in servers {
            let is_own = server.address.is_some() && server.address == config.node.address;
            let subjects: Vec<(Subject, SocketAddr)> = match pool.mechanism() {
                Mechanism::Handoff if config.node.roles.backend && is_own => {
                    services_for(config, id)
                        .map(|service| (Subject::Service(service.vip), service.listen))
                        .collect()
                }
                Mechanism::Relay if config.node.roles.proxy => {
                    let http = server.http.into_iter();
                    http.map(|at| (Subject::Server(at), at)).collect()
                }
                _ => Vec::new(),
            };
            targets.extend(subjects.into_iter().map(|(subject, at)| Target {
                subject,
                pool: id,
                at,
                host: host(&server.name),
                check: check.clone(),
            }));
        }
    }
    targets
}

async fn watch(target: Target, checks: Checks) {
    let Check { rise, fall, .. } = target.check;
    let mut streak = Streak::new(rise, fall);
    let mut ticks = interval(target.check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = probe(&target).await;
        let count = match outcome {
            Ok(()) => &checks.0.passed,
            Err(_) => &checks.0.failed,
        };
        count.fetch_add(1, Relaxed);
        let is_news = streak.note(outcome.is_ok());
        checks.set(&target, streak.is_up());
        if is_news {
            tell(&target, outcome);
        }
    }
}

fn tell(target: &Target, outcome: Result<(), Failure>) {
    let (at, host) = (target.at, &target.host);
    match outcome {
        Ok(()) => tracing::info!(%at, host, "the web server passes its check again"),
        Err(error) => {
            tracing::warn!(%at, host, "the web server fails its check, and gets no requests: {error}");
        }
    }
}

async fn probe(target: &Target) -> Result<(), Failure> {
    let limit = target.check.timeout;
    let outcome = timeout(limit, ask(target)).await;
    outcome.unwrap_or(Err(Failure::TimeOut(limit)))
}

async fn ask(target: &Target) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(target.at).await?;
    let Some(path) = &target.check.path else {
        return Ok(());
    };
    let host = &target.host;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: baton-check\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut line = Vec::with_capacity(LINE);
    while line.len() < LINE && !line.contains(&b'\n') {
        if stream.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    match status(&line) {
        Some(status) if status == target.check.status => Ok(()),
        Some(status) => Err(Failure::Status(status)),
        None => Err(Failure::NotHttp),
    }
}

/// `HTTP/1.1 200 OK`
fn status(line: &[u8]) -> Option<u16> {
    let mut words = line.strip_prefix(b"HTTP/1.")?.split(|byte| *byte == b' ');
    words.next()?;
    let digits = std::str::from_utf8(words.next()?).ok()?;
    digits.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::path::Path;

    use super::*;
    use crate::config::Scope;

    /// A server that gives one answer to everything.
    fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap();
                assert!(request[..length].starts_with(b"GET /up?a=b HTTP/1.1\r\nHost: b1\r\n"));
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        at
    }

    fn target(at: SocketAddr, path: Option<&str>) -> Target {
        Target {
            subject: Subject::Server(at),
            pool: PoolId(0),
            at,
            host: "b1".into(),
            check: Check {
                path: path.map(str::to_owned),
                timeout: Duration::from_millis(300),
                ..Check::default()
            },
        }
    }

    #[tokio::test]
    async fn the_status_is_the_expected_one_or_the_check_fails() {
        let ask = async |answer| {
            let outcome = probe(&target(server(answer), Some("/up?a=b"))).await;
            outcome.map_err(|error| error.to_string())
        };
        assert_eq!(ask("HTTP/1.1 200 OK\r\n\r\n").await, Ok(()));
        assert_eq!(ask("HTTP/1.0 200\r\n").await, Ok(()));
        let failed = |text: &str| Err(text.to_owned());
        assert_eq!(
            ask("HTTP/1.1 503 Busy\r\n\r\n").await,
            failed("it answers with status 503")
        );
        assert_eq!(
            ask("SSH-2.0-x\r\n").await,
            failed("what it answers is not HTTP")
        );
        assert_eq!(ask("").await, failed("what it answers is not HTTP"));
    }

    #[tokio::test]
    async fn without_a_path_a_listener_is_enough_and_nobody_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        probe(&target(at, None)).await.unwrap();
        let silent = probe(&target(at, Some("/"))).await.unwrap_err();
        assert!(matches!(silent, Failure::TimeOut(_)), "{silent}");
        drop(listener);
        let refused = probe(&target(at, None)).await.unwrap_err();
        assert!(matches!(refused, Failure::Connection(_)), "{refused}");
    }

    #[test]
    fn each_node_checks_its_own_part() {
        let config = |role: &str, address: &str| {
            let text = format!(
                r#"
[node]
name = "n"
roles = ["{role}"]
interfaces = ["eth0"]
address = "{address}"
secret_file = "s"
[[vip]]
name = "web"
addresses = ["10.77.0.10:80"]
[[server]]
name = "b1"
address = "10.77.0.21"
http = "10.77.0.21:8080"
[[server]]
name = "b2"
address = "10.77.0.22"
http = "10.77.0.22:8080"
[[pool]]
name = "handed"
servers = ["b1", "b2"]
check = {{ path = "/up" }}
[[pool]]
name = "relayed"
mechanism = "relay"
servers = ["b1", "b2"]
check = {{}}
[[pool]]
name = "unchecked"
servers = ["b1"]
[[route]]
path = "/r"
pool = "relayed"
[[route]]
pool = "handed"
{}"#,
                if role == "backend" {
                    "[[backend.service]]\nvip = \"web\"\nlisten = \"127.0.0.1:8080\""
                } else {
                    ""
                }
            );
            Config::parse(&text, Path::new("baton.toml"), Scope::Elsewhere).unwrap()
        };
        let of = |role, address| {
            let targets = targets(&config(role, address)).into_iter();
            let shown = targets.map(|t| (t.pool.0, t.at.to_string(), t.check.path));
            shown.collect::<Vec<_>>()
        };
        let up = Some("/up".to_owned());
        assert_eq!(
            of("backend", "10.77.0.22"),
            [(0, "127.0.0.1:8080".to_owned(), up)]
        );
        let relayed = ["10.77.0.21:8080", "10.77.0.22:8080"].map(|at| (1, at.to_owned(), None));
        assert_eq!(of("proxy", "10.77.0.11"), relayed);
    }
}
