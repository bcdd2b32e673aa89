//! H3: a bind that comes again, long after its request was answered, executes nothing again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::log::{logged, settle, wait_logged};
use super::{CLUSTER_PORT, Ground, PROXY};
use crate::client::{Connection, Expected, Request};
use crate::cluster::{Lab, POOLS, digest_of, wait_until};
use crate::impair::frame::datagram;
use crate::impair::{Fate, Way};
use crate::origin::Received;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

/// Kind of the message (docs/wire.md).
const BIND: u8 = 1;
/// When binds come again.
const AGAIN_SHORT: [u64; 2] = [400, 1_500];
const AGAIN_LONG: [u64; 4] = [400, 3_000, 15_000, 45_000];
const PATIENCE: Duration = Duration::from_secs(10);
const SETTING: &str = "net.ipv4.tcp_max_tw_buckets";

/// How a request's server comes to have no socket for it any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Release,
    Close,
}

/// `ground` has the proxy's cable tapped.
pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    let again = if short { &AGAIN_SHORT[..] } else { &AGAIN_LONG };
    for (name, over) in [("release", Over::Release), ("close", Over::Close)] {
        recorder.case(&format!("H3/duplicate-bind-after-{name}"), |counts| {
            repeated(ground.lab()?, counts, over, again, name)
        })?;
        let short_wait = format!("{name}-without-time-wait");
        recorder.case(&format!("H3/duplicate-bind-after-{short_wait}"), |counts| {
            let lab = ground.lab()?;
            let usual = lab.netns(SERVERS[0]).setting(SETTING)?;
            set_time_waits(lab, "0")?;
            let told = repeated(lab, counts, over, again, &short_wait);
            set_time_waits(lab, &usual)?;
            told
        })?;
    }
    Ok(())
}

fn set_time_waits(lab: &Lab, most: &str) -> anyhow::Result<()> {
    SERVERS
        .iter()
        .try_for_each(|server| lab.netns(server).sysctl(SETTING, most))
}

fn repeated(
    lab: &mut Lab,
    counts: &mut Counts,
    over: Over,
    again: &'static [u64],
    mark: &str,
) -> anyhow::Result<String> {
    let repeated = Arc::new(AtomicUsize::new(0));
    let latest = Arc::new(AtomicU64::new(0));
    let (repeats, last, begun) = (Arc::clone(&repeated), Arc::clone(&latest), Instant::now());
    let ruled = lab.tap(PROXY)?.rule(move |way, frame| {
        let kind = *datagram(frame, CLUSTER_PORT)?.get(3)?;
        if way != Way::FromHost || kind != BIND {
            return None;
        }
        let number = repeats.fetch_add(1, Ordering::Relaxed);
        let after = Duration::from_millis(again[number % again.len()]);
        let due = (begun.elapsed() + after).as_millis() as u64;
        last.fetch_max(due, Ordering::Relaxed);
        Some(Fate::again(after))
    });
    let known = known_binds(lab)?;
    let requests = 6 * again.len();
    let body = lab.content.file("1KB")?;
    let received = serde_json::to_vec(&Received {
        method: "POST".into(),
        bytes: body.bytes,
        sha256: digest_of(&std::fs::read(&body.path)?),
    })?;
    let mut connection = Connection::to_vip(lab)?;
    for number in 0..requests {
        let place = number % POOLS.len();
        let path = format!("/{}/echo?{mark}={number}.", POOLS[place]);
        let mut request = Request::new("POST", path).body(body.path.clone());
        if over == Over::Close {
            connection = Connection::to_vip(lab)?;
            request = request.header("Connection", "close");
        }
        let expected = Expected::status(200, SERVERS[place]).bytes(&received);
        counts.check(connection.ask(&request), &expected)?;
    }
    // The repetitions come while the last connection is still there.
    let due = Duration::from_millis(latest.load(Ordering::Relaxed));
    thread::sleep(due.saturating_sub(begun.elapsed()));
    let sent = repeated.load(Ordering::Relaxed);
    wait_until("the agents saw the repetitions", PATIENCE, || {
        Ok(known_binds(lab)? > known + sent as u64 / 2)
    })?;
    settle();
    drop(ruled);
    for number in 0..requests {
        let (server, words) = (SERVERS[number % POOLS.len()], format!("?{mark}={number}. "));
        let times = wait_logged(lab, server, &words, 1)?;
        ensure!(times == 1, "{server} has executed a POST {times} times");
        for stranger in SERVERS.into_iter().filter(|other| *other != server) {
            ensure!(
                logged(lab, stranger, &words)? == 0,
                "{stranger} has executed a POST"
            );
        }
    }
    ensure!(
        sent >= requests,
        "{sent} binds repeated for {requests} requests: nothing is proved"
    );
    let known = known_binds(lab)? - known;
    Ok(format!(
        "{requests} POSTs, each once in the logs; {sent} binds came again, {known} were known"
    ))
}

/// Binds that came to an agent which knew them: released ones, too old ones, and those whose connection is closed.
fn known_binds(lab: &Lab) -> anyhow::Result<u64> {
    let mut sum = 0;
    for server in SERVERS {
        for (verdict, reason) in [
            ("dropped", "repeated_bind"),
            ("dropped", "stale_bind"),
            ("passed", "header"),
        ] {
            let series = format!(
                "baton_packets_total{{role=\"backend\",verdict=\"{verdict}\",reason=\"{reason}\"}}"
            );
            sum += lab.counter(server, &series)?;
        }
    }
    Ok(sum)
}
