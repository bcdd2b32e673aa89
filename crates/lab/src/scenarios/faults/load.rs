//! Transfers that go on while things break: real TCP connections of the client's host, each transfer checked to the last byte.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::client::{Answer, Connection, Dial, Expected, Request, Socket, Wrong};
use crate::cluster::{Lab, POOLS, digest, wait_until};
use crate::interrupt;
use crate::origin::Received;
use crate::report::Counts;
use crate::scenarios::SERVERS;

/// Before the number of a request that has one.
const MARK: &str = "u=";
/// Failures that are told in full.
const TOLD: usize = 20;
/// Transfers begin again and end within this time if nothing is broken.
const PATIENCE: Duration = Duration::from_secs(60);
/// Requests on a connection before the next one.
const REQUESTS: usize = 40;
/// A client's think time is at most this (ms).
const THINKING_MS: u64 = 40;
/// Slow readers and writers: so much at a time, and a pause.
const PIECE: usize = 32 << 10;
const PAUSE: Duration = Duration::from_millis(8);
/// SO_RCVBUF of slow readers: what they do not read waits at the server.
const BUFFER: usize = 64 << 10;

/// What one client does, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scenarios) enum Kind {
    /// 1 MB, read slowly, on a connection of its own.
    Download,
    /// 1 MB, written slowly; a few on a connection, each for another server.
    Upload,
    /// Small requests with pauses on one connection, over three servers.
    KeepAlive,
    /// One small request a connection.
    Short,
    /// Messages and their echoes.
    WebSocket,
}

/// One of each kind.
pub(in crate::scenarios) const MIXED: [Kind; 8] = [
    Kind::Download,
    Kind::KeepAlive,
    Kind::Upload,
    Kind::Short,
    Kind::WebSocket,
    Kind::KeepAlive,
    Kind::Download,
    Kind::KeepAlive,
];

/// What is asked for and what must come.
struct Wanted {
    to: SocketAddr,
    /// Some requests have a number of their own, behind this one.
    run: u64,
    requests: AtomicU64,
    small: [Expected; 3],
    large: [Expected; 3],
    upload: PathBuf,
    received: [Expected; 3],
}

impl Wanted {
    fn new(lab: &mut Lab) -> anyhow::Result<Self> {
        let (small, large) = (lab.content.file("1KB")?, lab.content.file("1MB")?);
        let received = serde_json::to_vec(&Received {
            method: "POST".to_owned(),
            bytes: large.bytes,
            sha256: large.sha256.clone(),
        })?;
        Ok(Self {
            to: lab.vip(),
            run: RUNS.fetch_add(1, Ordering::Relaxed),
            requests: AtomicU64::new(0),
            small: SERVERS.map(|server| Expected::file(server, &small)),
            large: SERVERS.map(|server| Expected::file(server, &large)),
            received: SERVERS.map(|server| Expected::status(200, server).bytes(&received)),
            upload: large.path,
        })
    }
}

/// How many loads there were.
static RUNS: AtomicU64 = AtomicU64::new(0);
/// nginx keeps lines of its log for 100 ms.
const LOGGED: Duration = Duration::from_millis(400);

impl Wanted {
    /// What makes a request the only one of its kind.
    fn mark(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        format!("{MARK}{}.{number}", self.run)
    }
}

/// Requests of this run that the servers have logged more than once.
fn executed_twice(lab: &Lab, run: u64) -> anyhow::Result<Vec<String>> {
    thread::sleep(LOGGED);
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    let run = format!("{MARK}{run}.");
    for server in lab.topology.backends() {
        let log = lab.dir(&server.name).join("access.log");
        let text =
            fs::read_to_string(&log).with_context(|| format!("no log at {}", server.name))?;
        let words = text.lines().flat_map(|line| line.split(' '));
        for word in words.filter(|word| word.contains(&run)) {
            *times.entry(word.to_owned()).or_default() += 1;
        }
    }
    Ok(times
        .into_iter()
        .filter(|(_, times)| *times > 1)
        .map(|(word, _)| word)
        .take(TOLD)
        .collect())
}

/// What those who watch the transfers see.
pub(in crate::scenarios) struct Progress {
    ended: AtomicU64,
    counts: Mutex<(Counts, Vec<String>)>,
    clients: u64,
}

impl Progress {
    /// How many transfers have failed so far, or brought wrong bytes.
    pub(in crate::scenarios) fn broken(&self) -> u64 {
        let (counts, _) = &*self.state();
        counts.failed + counts.wrong_bytes
    }

    fn state(&self) -> MutexGuard<'_, (Counts, Vec<String>)> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many have ended so far, however they did.
    pub(in crate::scenarios) fn transfers(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Waits until as many transfers have ended as there are clients: all that was asked before something changed is likely answered, and
    /// new ones come through.
    ///
    /// # Errors
    /// When they stand still.
    pub(in crate::scenarios) fn goes_on(&self) -> anyhow::Result<()> {
        let enough = self.transfers() + self.clients;
        wait_until("transfers go on", PATIENCE, || {
            Ok(self.transfers() >= enough)
        })
    }
}

/// Lets clients transfer while `act` runs, and waits until each has ended what it had begun. All transfers are counted.
///
/// # Errors
/// Those of `act`; else, when transfers failed, what became of the first ones.
pub(in crate::scenarios) fn under_load<T>(
    lab: &mut Lab,
    counts: &mut Counts,
    kinds: &[Kind],
    seed: u64,
    act: impl FnOnce(&mut Lab, &Progress) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let wanted = Wanted::new(lab)?;
    let (stop, progress) = (
        AtomicBool::new(false),
        Progress {
            ended: AtomicU64::new(0),
            counts: Mutex::default(),
            clients: kinds.len() as u64,
        },
    );
    let netns = lab.netns("client");
    let start = Instant::now();
    let result = thread::scope(|scope| {
        for (number, &kind) in kinds.iter().enumerate() {
            let mut client = Client {
                wanted: &wanted,
                stop: &stop,
                progress: &progress,
                random: ChaCha8Rng::seed_from_u64(seed.wrapping_add(number as u64)),
                kind,
                start,
            };
            let netns = &netns;
            scope.spawn(move || {
                netns.inside(|| {
                    client.go_on();
                    Ok(())
                })
            });
        }
        let result = progress.goes_on().and_then(|()| act(lab, &progress));
        let result = result.and_then(|value| progress.goes_on().map(|()| value));
        stop.store(true, Ordering::Relaxed);
        result
    });
    let (seen, why) = progress
        .counts
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    counts.transfers += seen.transfers;
    counts.failed += seen.failed;
    counts.wrong_bytes += seen.wrong_bytes;
    let broken = seen.failed + seen.wrong_bytes;
    let twice = executed_twice(lab, wanted.run)?;
    let told = || {
        format!(
            "{broken} of {} transfers failed: {}",
            seen.transfers,
            why.join("; ")
        )
    };
    let value = result.with_context(|| {
        if broken > 0 {
            told()
        } else {
            "all transfers were right".to_owned()
        }
    })?;
    ensure!(broken == 0, "{}", told());
    ensure!(twice.is_empty(), "executed more than once: {twice:?}");
    Ok(value)
}

struct Client<'a> {
    wanted: &'a Wanted,
    stop: &'a AtomicBool,
    progress: &'a Progress,
    random: ChaCha8Rng,
    kind: Kind,
    start: Instant,
}

impl Client<'_> {
    fn go_on(&mut self) {
        while self.wants_more() {
            if let Err(error) = self.session() {
                self.ended(Err(error));
                // What is broken for good does not fill the report.
                thread::sleep(Duration::from_millis(100));
            }
        }
    }

    fn wants_more(&self) -> bool {
        !self.stop.load(Ordering::Relaxed) && interrupt::check().is_ok()
    }

    /// A connection and what is done on it. A failure is counted by the caller, the rest here.
    fn session(&mut self) -> Result<(), Wrong> {
        match self.kind {
            Kind::Download => self.download(),
            Kind::Upload => self.uploads(),
            Kind::KeepAlive => self.small(REQUESTS),
            Kind::Short => self.small(1),
            Kind::WebSocket => self.websocket(),
        }
    }

    fn small(&mut self, requests: usize) -> Result<(), Wrong> {
        let mut connection = Connection::open(self.wanted.to)?;
        for number in 0..requests {
            let pool = self.random.random_range(0..POOLS.len());
            let mut path = format!("/{}/1KB", POOLS[pool]);
            // The others are the same again and again, which the kernel may decide by itself.
            if requests == 1 || number % 2 == 0 {
                path += &format!("?{}", self.wanted.mark());
            }
            let request = Request::new("GET", path);
            let answer = connection.ask(&request);
            let answer = answer.with_context(|| format!("request {}", number + 1))?;
            self.check(&answer, &self.wanted.small[pool])?;
            let thinking = self.random.random_range(0..=THINKING_MS);
            thread::sleep(Duration::from_millis(thinking));
            if !self.wants_more() {
                break;
            }
        }
        Ok(())
    }

    fn download(&mut self) -> Result<(), Wrong> {
        let pool = self.random.random_range(0..POOLS.len());
        let dial = Dial {
            receive_buffer: Some(BUFFER),
            ..Dial::default()
        };
        let mut connection = Connection::over(dial.connect(self.wanted.to)?)?;
        connection.send(&Request::new("GET", format!("/{}/1MB", POOLS[pool])))?;
        let mut answer = connection.head()?;
        let length = answer
            .header("Content-Length")
            .and_then(|length| length.parse().ok());
        let body = connection.input().take(length.context("no length")?);
        (answer.bytes, answer.sha256) =
            digest(&mut Slow(body)).context("in the middle of a body")?;
        self.check(&answer, &self.wanted.large[pool])
    }

    fn uploads(&mut self) -> Result<(), Wrong> {
        let body = std::fs::read(&self.wanted.upload).context("the file to upload")?;
        let mut connection = Connection::open(self.wanted.to)?;
        for (number, pool) in POOLS.iter().enumerate() {
            let head = format!(
                "POST /{pool}/echo?{} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
                self.wanted.mark(),
                self.wanted.to,
                body.len()
            );
            connection
                .write(head.as_bytes())
                .context("the head of an upload")?;
            for piece in body.chunks(PIECE) {
                connection
                    .write(piece)
                    .context("in the middle of an upload")?;
                thread::sleep(PAUSE);
            }
            self.check(&connection.answer("POST")?, &self.wanted.received[number])?;
            if !self.wants_more() {
                break;
            }
        }
        Ok(())
    }

    fn websocket(&mut self) -> Result<(), Wrong> {
        let pool = self.random.random_range(0..POOLS.len());
        let mut socket = Socket::open(Connection::open(self.wanted.to)?, POOLS[pool])?;
        for number in 0..REQUESTS {
            let length = self.random.random_range(0..20_000);
            socket.echo(number, length)?;
            self.ended(Ok(()));
            thread::sleep(Duration::from_millis(THINKING_MS));
            if !self.wants_more() {
                break;
            }
        }
        Ok(socket.close()?)
    }

    fn check(&self, answer: &Answer, expected: &Expected) -> Result<(), Wrong> {
        expected.compare(answer)?;
        self.ended(Ok(()));
        Ok(())
    }

    fn ended(&self, how: Result<(), Wrong>) {
        let mut state = self.progress.state();
        let (counts, told) = &mut *state;
        counts.transfers += 1;
        let why = match how {
            Ok(()) => None,
            Err(Wrong::Answer(why)) => {
                counts.failed += 1;
                Some(why)
            }
            Err(Wrong::Bytes(why)) => {
                counts.wrong_bytes += 1;
                Some(why)
            }
        };
        if let Some(why) = why {
            let seconds = self.start.elapsed().as_secs_f64();
            let why = format!("{:?} after {seconds:.1} s: {why}", self.kind);
            eprintln!("a transfer failed: {why}");
            if told.len() < TOLD {
                told.push(why);
            }
        }
        self.progress.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads a piece at a time, with pauses.
struct Slow<R>(R);

impl<R: Read> Read for Slow<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        thread::sleep(PAUSE);
        let most = into.len().min(PIECE);
        self.0.read(&mut into[..most])
    }
}
