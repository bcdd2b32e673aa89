//! H2: answers that the client does not read at once, while it already asks another server.

use std::thread;
use std::time::Duration;

use super::Ground;
use crate::client::{Connection, Dial, Expected, Request};
use crate::cluster::{Lab, POOLS};
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

/// Around what sockets' buffers and a first window hold.
const SIZES: [u64; 7] = [0, 1, 1_000, 46_000, 64_000, 100_000, 300_000];
/// SO_RCVBUF of the clients (bytes).
const BUFFERS: [usize; 2] = [2_304, 65_536];
/// For which the client does not read.
const PAUSE: Duration = Duration::from_millis(150);

pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    for (name, place) in [("length", "own"), ("chunked", "chunked")] {
        recorder.case(&format!("H2/unread-answers-{name}"), |counts| {
            unread(ground.lab()?, counts, place, if short { 1 } else { 5 })
        })?;
    }
    Ok(())
}

/// A connection for each buffer and distance between the sizes of two answers; each asks for all sizes, always another server than
/// before, and one request ahead of what it reads. All at once: they mostly wait.
fn unread(
    lab: &mut Lab,
    counts: &mut Counts,
    place: &str,
    rounds: usize,
) -> anyhow::Result<String> {
    let mut expected = Vec::new();
    for server in SERVERS {
        let files: anyhow::Result<Vec<_>> = SIZES
            .iter()
            .map(|&size| Ok(Expected::file(server, &lab.own_file(server, size)?)))
            .collect();
        expected.push(files?);
    }
    let clients: Vec<(usize, usize)> = BUFFERS
        .into_iter()
        .flat_map(|buffer| (1..SIZES.len()).map(move |step| (buffer, step)))
        .collect();
    let lab = &*lab;
    let told: Vec<(String, anyhow::Result<_>)> = thread::scope(|scope| {
        let running: Vec<_> = clients
            .iter()
            .map(|&(buffer, step)| {
                let ask = move || read_late(lab, place, buffer, step, rounds);
                (format!("buffer {buffer}, step {step}"), scope.spawn(ask))
            })
            .collect();
        running
            .into_iter()
            .map(|(name, thread)| {
                let answers = thread.join();
                (
                    name,
                    answers.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread broke"))),
                )
            })
            .collect()
    });
    for (name, answers) in told {
        let answers = answers.map_err(|error| error.context(name.clone()))?;
        for (number, (server, size, answer)) in answers.into_iter().enumerate() {
            counts
                .check(answer, &expected[server][size])
                .map_err(|error| error.context(format!("{name}, answer {}", number + 1)))?;
        }
    }
    Ok(format!(
        "{} answers, all read late",
        clients.len() * SIZES.len() * rounds
    ))
}

type Late = (usize, usize, anyhow::Result<crate::client::Answer>);

fn read_late(
    lab: &Lab,
    place: &str,
    buffer: usize,
    step: usize,
    rounds: usize,
) -> anyhow::Result<Vec<Late>> {
    let mut connection = Dial {
        receive_buffer: Some(buffer),
        ..Dial::default()
    }
    .vip(lab)?;
    // SIZES has a prime number of elements: each step comes to all of them.
    let plan: Vec<(usize, usize)> = (0..SIZES.len() * rounds)
        .map(|number| (number % POOLS.len(), number * step % SIZES.len()))
        .collect();
    let ask = |connection: &mut Connection, (server, size): (usize, usize)| {
        let path = format!("/{}/{place}/{}", POOLS[server], SIZES[size]);
        connection.send(&Request::new("GET", path))
    };
    ask(&mut connection, plan[0])?;
    let mut answers = Vec::new();
    for (number, &(server, size)) in plan.iter().enumerate() {
        thread::sleep(PAUSE);
        if let Some(&next) = plan.get(number + 1) {
            ask(&mut connection, next)?;
        }
        thread::sleep(PAUSE);
        let answer = connection.answer("GET");
        let over = answer.is_err();
        answers.push((server, size, answer));
        if over {
            break;
        }
    }
    Ok(answers)
}
