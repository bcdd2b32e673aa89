//! Requests at a fixed rate on connections that are kept, whatever the answers take: an open loop.

use std::collections::VecDeque;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl;
use nix::sys::time::TimeSpec;

use super::answer::Answer;
use super::fetch::head;
use crate::cluster::Lab;
use crate::interrupt;

/// Nothing for so long means that nothing will come.
const SILENCE: Duration = Duration::from_secs(10);
/// What every good answer begins with.
const OK: &[u8] = b"HTTP/1.1 200 ";
/// The client may end later than the rate demands by this part of the time.
const LATE: f64 = 0.1;

/// Connections of the client of a lab that have each had an answer already.
pub(crate) struct Pace {
    request: String,
    connections: Vec<Connection>,
}

struct Connection {
    stream: TcpStream,
    /// Of an answer, head and body: every answer to this request is as long as the first one.
    length: usize,
    /// Of the present answer.
    arrived: usize,
    asked: Instant,
}

impl Pace {
    /// # Errors
    /// When a connection gets no answer.
    pub(crate) fn open(
        lab: &Lab,
        to: SocketAddr,
        path: &str,
        connections: usize,
    ) -> anyhow::Result<Self> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n");
        let connections = lab.netns("client").inside(|| {
            (0..connections)
                .map(|_| Connection::open(to, &request))
                .collect()
        })?;
        Ok(Self {
            request,
            connections,
        })
    }

    /// Sends requests at `rate` a second for so long, each on the connection that has been idle for longest. Returns how long the answers
    /// took, in the order of their arrival: from when the request was sent, or, if no connection was free then, from when it was due.
    /// (That this program wakes up a little late is no fault of who answers.)
    ///
    /// # Errors
    /// When an answer is no good, or the client cannot keep the rate.
    pub(crate) fn run(&mut self, rate: u32, duration: Duration) -> anyhow::Result<Vec<Duration>> {
        prctl::set_timerslack(1)?;
        let total = (duration.as_secs_f64() * f64::from(rate)) as usize;
        let start = Instant::now();
        let times = self.ask_all(rate, total)?;
        let (took, asked) = (start.elapsed().as_secs_f64(), duration.as_secs_f64());
        ensure!(
            took < asked * (1.0 + LATE) + 0.1,
            "{total} requests took {took:.1} s instead of {asked:.1} s"
        );
        Ok(times)
    }

    fn ask_all(&mut self, rate: u32, total: usize) -> anyhow::Result<Vec<Duration>> {
        let interval = Duration::from_secs(1) / rate;
        let mut idle: VecDeque<usize> = (0..self.connections.len()).collect();
        let mut times = Vec::with_capacity(total);
        let (start, mut sent, mut blocked) = (Instant::now(), 0, false);
        while times.len() < total {
            interrupt::check()?;
            let mut due = None;
            while sent < total {
                let at = start + interval * u32::try_from(sent)?;
                if at > Instant::now() {
                    (due, blocked) = (Some(at), false);
                    break;
                }
                let Some(index) = idle.pop_front() else {
                    blocked = true;
                    break;
                };
                self.connections[index].ask(&self.request, blocked.then_some(at))?;
                sent += 1;
            }
            for index in self.readable(due)? {
                if let Some(time) = self.connections[index].take()? {
                    times.push(time);
                    idle.push_back(index);
                }
            }
        }
        Ok(times)
    }

    /// Waits until something of an answer arrives or the next request is due; the connections where something did.
    fn readable(&self, due: Option<Instant>) -> anyhow::Result<Vec<usize>> {
        let mut ends: Vec<PollFd<'_>> = self
            .connections
            .iter()
            .map(|connection| PollFd::new(connection.stream.as_fd(), PollFlags::POLLIN))
            .collect();
        let timeout = due.map_or(SILENCE, |due| due.saturating_duration_since(Instant::now()));
        match ppoll(&mut ends, Some(TimeSpec::from_duration(timeout)), None) {
            Ok(0) if due.is_none() => bail!("no answer for {} s", SILENCE.as_secs()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let readable = |end: &PollFd<'_>| end.any() == Some(true);
        let ends = ends.iter().enumerate().filter(|(_, end)| readable(end));
        Ok(ends.map(|(index, _)| index).collect())
    }
}

impl Connection {
    /// Connects and has one request answered.
    fn open(to: SocketAddr, request: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, SILENCE)
            .with_context(|| format!("cannot connect to {to}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        (&stream).write_all(request.as_bytes())?;
        let mut input = BufReader::new(&stream);
        let head = head(&mut input)?;
        let mut answer = Answer::default();
        answer.take_head(&head)?;
        ensure!(answer.status == 200, "status {}", answer.status);
        let body: u64 = answer
            .header("Content-Length")
            .context("an answer without a length")?
            .parse()?;
        let read = std::io::copy(&mut input.take(body), &mut std::io::sink())?;
        ensure!(read == body, "{read} of {body} bytes came");
        Ok(Self {
            length: head.len() + usize::try_from(body)?,
            stream,
            arrived: 0,
            asked: Instant::now(),
        })
    }

    fn ask(&mut self, request: &str, due: Option<Instant>) -> std::io::Result<()> {
        self.arrived = 0;
        self.asked = due.unwrap_or_else(Instant::now);
        self.stream.write_all(request.as_bytes())
    }

    /// Takes what has arrived; if that ends the answer, how long it took.
    fn take(&mut self) -> anyhow::Result<Option<Duration>> {
        let mut buffer = [0; 16 << 10];
        let read = self.stream.read(&mut buffer)?;
        ensure!(read > 0, "a connection was closed");
        ensure!(
            self.arrived > 0 || buffer.starts_with(OK),
            "an answer that is not as the first one was"
        );
        self.arrived += read;
        ensure!(
            self.arrived <= self.length,
            "an answer that is longer than the first one was"
        );
        Ok((self.arrived == self.length).then(|| self.asked.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    /// Answers each request after `delay`; returns how many there were.
    fn server(delay: Duration) -> (SocketAddr, thread::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let serve = move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut input = BufReader::new(stream.try_clone().unwrap());
            let mut requests = 0;
            while head(&mut input).is_ok() {
                requests += 1;
                thread::sleep(delay);
                stream.write_all(ANSWER).unwrap();
            }
            requests
        };
        (to, thread::spawn(serve))
    }

    fn paced(to: SocketAddr) -> Pace {
        let request = "GET / HTTP/1.1\r\n\r\n".to_owned();
        let connections = vec![Connection::open(to, &request).unwrap()];
        Pace {
            request,
            connections,
        }
    }

    #[test]
    fn as_many_requests_as_the_rate_says() {
        let (to, served) = server(Duration::ZERO);
        let times = paced(to).run(100, Duration::from_millis(200)).unwrap();
        assert_eq!((times.len(), served.join().unwrap()), (20, 21));
    }

    #[test]
    fn waiting_for_a_free_connection_counts() {
        let delay = Duration::from_millis(20);
        let (to, _) = server(delay);
        // Five at once: each waits for those before it.
        let times = paced(to).ask_all(1_000_000, 5).unwrap();
        for (number, time) in times.iter().enumerate() {
            let least = delay * u32::try_from(number + 1).unwrap();
            assert!(*time >= least, "{number}: {time:?}");
        }
    }

    #[test]
    fn a_server_that_is_too_slow_is_told() {
        let (to, _) = server(Duration::from_millis(50));
        let error = paced(to).run(100, Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("instead of 0.1 s"), "{error}");
    }
}
