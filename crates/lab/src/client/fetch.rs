//! A sequence of requests on exactly one connection, each checked: what curl cannot be made to promise.
//!
//! The scenario writes a [`Plan`] to `baton lab fetch` on a host and reads the [`Outcome`]; both are JSON.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::chunks::Chunks;
use crate::cluster::{Lab, digest};
use crate::command;

/// Nothing for so long means that nothing will come.
const SILENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) to: SocketAddr,
    pub(crate) requests: Vec<Request>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Sent with its length.
    pub(crate) body: Option<PathBuf>,
}

impl Request {
    pub(crate) fn new(method: &str, path: impl Into<String>) -> Self {
        Self {
            method: method.to_owned(),
            path: path.into(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(self, file: PathBuf) -> Self {
        Self {
            body: Some(file),
            ..self
        }
    }
}

/// The answers, in the order of the requests; fewer if something went wrong.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) answers: Vec<Answer>,
    pub(crate) error: Option<String>,
}

/// Follows the plan from the client of the lab.
///
/// # Errors
/// When the program for it fails; what happens to the requests is in the outcome.
pub(crate) fn fetch(lab: &Lab, plan: &Plan) -> anyhow::Result<Outcome> {
    let mut fetch = lab.netns("client").command(lab.baton());
    fetch.args(["lab", "fetch"]);
    let (text, output) = command::piped(&mut fetch, &serde_json::to_vec(plan)?, |stdout| {
        let mut text = String::new();
        stdout.read_to_string(&mut text)?;
        Ok(text)
    })?;
    serde_json::from_str(&text).with_context(|| {
        format!(
            "fetch failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )
    })
}

/// Follows the plan from here.
pub(crate) fn follow(plan: &Plan) -> Outcome {
    let mut outcome = Outcome::default();
    if let Err(error) = converse(plan, &mut outcome.answers) {
        outcome.error = Some(format!("request {}: {error:#}", outcome.answers.len() + 1));
    }
    outcome
}

fn converse(plan: &Plan, answers: &mut Vec<Answer>) -> anyhow::Result<()> {
    let mut connection = Connection::open(plan.to)?;
    for request in &plan.requests {
        answers.push(connection.ask(request)?);
    }
    Ok(())
}

/// One connection; what is written goes out at once, each time in a segment of its own.
pub(crate) struct Connection {
    to: SocketAddr,
    input: BufReader<TcpStream>,
}

impl Connection {
    /// # Errors
    /// When nobody accepts.
    pub(crate) fn open(to: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, SILENCE)
            .with_context(|| format!("cannot connect to {to}"))?;
        Self::over(stream)
    }

    /// On a stream that is connected.
    ///
    /// # Errors
    /// When it is not connected any more.
    pub(crate) fn over(stream: TcpStream) -> anyhow::Result<Self> {
        let to = stream.peer_addr()?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        stream.set_nodelay(true)?;
        let input = BufReader::with_capacity(1 << 16, stream);
        Ok(Self { to, input })
    }

    /// From the client of a lab to its VIP.
    ///
    /// # Errors
    /// When nobody accepts.
    pub(crate) fn to_vip(lab: &Lab) -> anyhow::Result<Self> {
        lab.netns("client").inside(|| Self::open(lab.vip()))
    }

    /// # Errors
    /// When it cannot be sent, or no answer comes to its end.
    pub(crate) fn ask(&mut self, request: &Request) -> anyhow::Result<Answer> {
        let start = Instant::now();
        self.send(request)?;
        let mut answer = self.answer(&request.method)?;
        answer.seconds = start.elapsed().as_secs_f64();
        Ok(answer)
    }

    /// # Errors
    /// When the connection is broken.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.input.get_mut().write_all(bytes)
    }

    /// The next answer; `method` is the one of its request.
    ///
    /// # Errors
    /// When none comes to its end.
    pub(crate) fn answer(&mut self, method: &str) -> anyhow::Result<Answer> {
        receive(&mut self.input, method)
    }

    /// The next head, whatever follows it.
    ///
    /// # Errors
    /// When none comes.
    pub(crate) fn head(&mut self) -> anyhow::Result<Answer> {
        let mut answer = Answer::default();
        answer.take_head(&head(&mut self.input)?)?;
        Ok(answer)
    }

    /// What comes, byte by byte.
    pub(crate) fn input(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.input
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.input.get_ref()
    }

    /// # Errors
    /// When it cannot be sent.
    pub(crate) fn send(&mut self, request: &Request) -> anyhow::Result<()> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            request.method, request.path, self.to
        );
        for (name, value) in &request.headers {
            head += &format!("{name}: {value}\r\n");
        }
        match &request.body {
            None => self.write((head + "\r\n").as_bytes())?,
            Some(path) => {
                let mut body = fs::File::open(path)?;
                head += &format!("Content-Length: {}\r\n\r\n", body.metadata()?.len());
                self.write(head.as_bytes())?;
                std::io::copy(&mut body, self.input.get_mut())?;
            }
        }
        Ok(())
    }
}

fn receive(input: &mut impl BufRead, method: &str) -> anyhow::Result<Answer> {
    let mut answer = Answer::default();
    while answer.status == 0 {
        answer.take_head(&head(input)?)?;
    }
    let bodiless = method == "HEAD" || matches!(answer.status, 204 | 304);
    let length = match answer.header("Content-Length") {
        _ if bodiless => 0,
        Some(length) => length.parse()?,
        None if answer.header("Transfer-Encoding") == Some("chunked") => {
            (answer.bytes, answer.sha256) =
                digest(&mut Chunks::new(input)).context("in the middle of a body")?;
            return Ok(answer);
        }
        None => bail!("an answer of status {} without a length", answer.status),
    };
    (answer.bytes, answer.sha256) =
        digest(&mut input.take(length)).context("in the middle of a body")?;
    if answer.bytes < length {
        bail!(
            "the connection ended after {} of {length} bytes",
            answer.bytes
        );
    }
    Ok(answer)
}

pub(super) fn head(input: &mut impl BufRead) -> anyhow::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let read = input
            .by_ref()
            .take(65_536)
            .read_until(b'\n', &mut head)
            .context("no answer")?;
        if read == 0 {
            bail!("the connection ended before the answer");
        }
        if head.len() > 65_536 {
            bail!("a head of more than 64 KiB");
        }
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_their_lengths() {
        let mut input = &b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\
            HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"[..];
        let first = receive(&mut input, "GET").unwrap();
        assert_eq!(
            (first.status, first.interim, first.bytes),
            (200, vec![100], 3)
        );
        assert_eq!(receive(&mut input, "GET").unwrap().status, 304);
        let cut = receive(&mut input, "GET").unwrap_err().to_string();
        assert!(cut.contains("after 2 of 5"), "{cut}");
        assert!(receive(&mut input, "GET").is_err());
    }

    #[test]
    fn requests_go_over_one_connection_and_an_early_end_is_told() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut input = BufReader::new(&stream);
            for _ in 0..2 {
                head(&mut input).unwrap();
                (&stream)
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .unwrap();
            }
        });
        let outcome = follow(&Plan {
            to,
            requests: vec![Request::new("GET", "/"); 3],
        });
        server.join().unwrap();
        assert_eq!(outcome.answers.len(), 2);
        assert!(outcome.error.unwrap().starts_with("request 3: "));
    }
}
