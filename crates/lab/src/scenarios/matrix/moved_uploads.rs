//! H7: an upload after an upload at another server takes about as long as one at the same server: the new connection's window takes what
//! the client sends at once.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{Ground, LONG_DELAY};
use crate::client::{Connection, Expected};
use crate::cluster::{Lab, POOLS};
use crate::command;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;
use crate::scenarios::statistics::median;

/// Of the medians. A machine that does other things too is allowed more.
const RATIO: f64 = 1.1;
const SHORT_RATIO: f64 = 2.0;
/// What the decision and the release may take on a busy machine; less than a retransmission's time-out (200 ms).
const SLACK: Duration = Duration::from_millis(50);

/// Of the segments of an upload; without a larger first window it is hundreds of each.
const FEW: u64 = 30;

pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    let (ratio, tries) = if short {
        (SHORT_RATIO, 15)
    } else {
        (RATIO, 60)
    };
    recorder.case("H7/upload-moved", |counts| {
        upload_moved(ground.lab()?, counts, "1MB", tries, ratio)
    })?;
    if short {
        return Ok(());
    }
    let mut ground = ground.other(|options| options.faults.delay = LONG_DELAY);
    recorder.case("H7/upload-moved-50ms", |counts| {
        upload_moved(ground.lab()?, counts, "10MB", 15, ratio)
    })
}

fn upload_moved(
    lab: &mut Lab,
    counts: &mut Counts,
    file: &str,
    tries: usize,
    ratio: f64,
) -> anyhow::Result<String> {
    let before = beyond_window(lab)?;
    let (mut same, mut moved) = (Vec::<f64>::new(), Vec::<f64>::new());
    for number in 0..tries {
        let (first, other) = (number % 3, (number + 1) % 3);
        same.push(third_upload(lab, counts, file, [first, first, first])?);
        moved.push(third_upload(lab, counts, file, [first, first, other])?);
    }
    let (same, moved) = median(&same).zip(median(&moved)).context("no tries")?;
    let told = format!(
        "{moved:.3} s at another server, {same:.3} s at the same: {:.2}",
        moved / same
    );
    let beyond = beyond_window(lab)? - before;
    ensure!(
        beyond <= FEW,
        "{beyond} segments came beyond the window of a new connection"
    );
    ensure!(moved <= ratio * same + SLACK.as_secs_f64(), "{told}");
    Ok(told)
}

/// Seconds that the last of three uploads takes, on one connection; each is given to the client's TCP at once.
fn third_upload(
    lab: &mut Lab,
    counts: &mut Counts,
    file: &str,
    pools: [usize; 3],
) -> anyhow::Result<f64> {
    let body = fs::read(lab.content.file(file)?.path)?;
    let mut connection = Connection::to_vip(lab)?;
    let mut seconds = 0.0;
    for pool in pools {
        let (path, length) = (format!("/{}/put/moved", POOLS[pool]), body.len());
        let head = format!("PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        let request = [head.as_bytes(), &body].concat();
        let start = Instant::now();
        connection.write(&request)?;
        let answer = connection.answer("PUT")?;
        seconds = start.elapsed().as_secs_f64();
        let status = if answer.status == 201 { 201 } else { 204 }; // stored anew, or again
        counts.check(Ok(answer), &Expected::status(status, SERVERS[pool]))?;
    }
    Ok(seconds)
}

/// What the servers' kernels dropped for that (`BeyondWindow` in /proc/net/netstat; 0 where they do not count it).
fn beyond_window(lab: &Lab) -> anyhow::Result<u64> {
    let mut all = 0;
    for server in SERVERS {
        let mut cat = lab.netns(server).command("cat");
        let text = command::run(cat.arg("/proc/net/netstat"))?;
        let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let (names, values) = lines.next().zip(lines.next()).context("no TcpExt")?;
        let counters = names.split(' ').zip(values.split(' '));
        let mut beyond = counters.filter(|(name, _)| *name == "BeyondWindow");
        all += beyond.next().map_or(Ok(0), |(_, value)| value.parse())?;
    }
    Ok(all)
}
