//! H21: a client that thinks for a while before it asks, and then loses the beginning of the answer: the server must not take the time of
//! thinking for a round trip.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{anyhow, ensure};

use super::Ground;
use crate::client::{Answer, Connection, Expected, Request};
use crate::cluster::{Lab, POOLS};
use crate::impair::frame::Segment;
use crate::impair::{Fate, Way};
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

const CLIENT: &str = "client";
const TIMESTAMPS: &str = "net.ipv4.tcp_timestamps";
/// About a second is what is wanted; a round trip taken for the time of thinking gives three times that time.
const RECOVERED: Duration = Duration::from_secs(5);

/// `ground` has the client's cable tapped.
pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    let thinking = Duration::from_secs(if short { 5 } else { 30 });
    recorder.case("H21/think-then-loss", |counts| {
        think_then_loss(ground.lab()?, counts, thinking)
    })
}

/// What one client does.
#[derive(Clone, Copy, Debug)]
struct Thinker {
    timestamps: bool,
    file: &'static str,
    /// Segments of each answer that are lost.
    lost: usize,
}

/// How many segments of the answer to come are to be lost, by the client's port.
type Losses = Arc<Mutex<HashMap<u16, usize>>>;

fn think_then_loss(
    lab: &mut Lab,
    counts: &mut Counts,
    thinking: Duration,
) -> anyhow::Result<String> {
    let mut thinkers = Vec::new();
    for timestamps in [true, false] {
        for (file, lost) in [("1KB", 1), ("1MB", 1), ("1MB", 4)] {
            thinkers.push(Thinker {
                timestamps,
                file,
                lost,
            });
        }
    }
    let (to_lose, lost): (Losses, _) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
    let (losing, loses) = (Arc::clone(&to_lose), Arc::clone(&lost));
    let _ruled = lab.tap(CLIENT)?.rule(move |way, frame| {
        let segment = Segment::of(frame)?;
        if way != Way::ToHost || segment.payload.is_empty() {
            return None;
        }
        let mut losing = losing.lock().unwrap_or_else(PoisonError::into_inner);
        let left = losing
            .get_mut(&segment.destination_port)
            .filter(|left| **left > 0)?;
        *left -= 1;
        loses.fetch_add(1, Ordering::Relaxed);
        Some(Fate::LOST)
    });
    let mut connections = Vec::new();
    for thinker in &thinkers {
        lab.content.file(thinker.file)?;
        let value = if thinker.timestamps { "1" } else { "0" };
        lab.netns(CLIENT).sysctl(TIMESTAMPS, value)?;
        let connection = Connection::to_vip(lab);
        lab.netns(CLIENT).sysctl(TIMESTAMPS, "1")?;
        connections.push((*thinker, connection?));
    }
    let results: Vec<(Thinker, anyhow::Result<Vec<Answer>>)> = thread::scope(|scope| {
        let running: Vec<_> = connections
            .into_iter()
            .map(|(thinker, connection)| {
                let losses = Arc::clone(&to_lose);
                let think = move || converse(connection, thinker, thinking, &losses);
                (thinker, scope.spawn(think))
            })
            .collect();
        let ended = running.into_iter().map(|(thinker, thread)| {
            let answers = thread
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a thread broke")));
            (thinker, answers)
        });
        ended.collect()
    });
    let mut slowest = (0.0, String::new());
    for (thinker, answers) in results {
        let file = lab.content.file(thinker.file)?;
        let answers = answers.map_err(|error| error.context(format!("{thinker:?}")))?;
        for (number, answer) in answers.into_iter().enumerate() {
            let answer = counts.check(Ok(answer), &Expected::file(SERVERS[number], &file))?;
            if answer.seconds > slowest.0 {
                slowest = (
                    answer.seconds,
                    format!("{thinker:?}, answer {}", number + 1),
                );
            }
            ensure!(
                answer.seconds < RECOVERED.as_secs_f64(),
                "{thinker:?}: answer {} took {:.1} s after {} s of thinking",
                number + 1,
                answer.seconds,
                thinking.as_secs()
            );
        }
    }
    let (lost, most) = (
        lost.load(Ordering::Relaxed),
        2 * thinkers.iter().map(|thinker| thinker.lost).sum::<usize>(),
    );
    ensure!(
        lost == most,
        "{lost} segments of {most} were lost: nothing is proved"
    );
    Ok(format!(
        "{lost} segments lost after {} s of thinking; slowest {:.2} s ({})",
        thinking.as_secs(),
        slowest.0,
        slowest.1
    ))
}

/// Thinks, asks, thinks, asks another server.
fn converse(
    mut connection: Connection,
    thinker: Thinker,
    thinking: Duration,
    losses: &Losses,
) -> anyhow::Result<Vec<Answer>> {
    let port = connection.stream().local_addr()?.port();
    let mut answers = Vec::new();
    for pool in &POOLS[..2] {
        thread::sleep(thinking);
        losses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(port, thinker.lost);
        answers.push(connection.ask(&Request::new("GET", format!("/{pool}/{}", thinker.file)))?);
    }
    Ok(answers)
}
