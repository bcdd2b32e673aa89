//! A running `baton`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_baton");

/// A process that dies with the test.
pub(crate) struct Baton {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Baton {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// The next log line that contains `text`.
    pub(crate) fn log_line(&mut self, text: &str) -> String {
        let mut lines = String::new();
        loop {
            let begin = lines.len();
            let read = self.log.read_line(&mut lines).unwrap();
            assert_ne!(read, 0, "no log line has {text:?}:\n{lines}");
            if lines[begin..].contains(text) {
                return lines[begin..].to_owned();
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    /// How it ended, and the rest of its log.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap(), log)
    }
}

impl Drop for Baton {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback address that no other test of any process uses at the same time.
pub(crate) fn own_address(port: u16) -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let next = NEXT.fetch_add(1, Ordering::Relaxed) as u8;
    (Ipv4Addr::new(127, high, low, next), port).into()
}

/// The answer to one GET on a connection of its own: status code and body.
pub(crate) fn get(address: SocketAddr, path: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok((
        head.split(' ').nth(1).unwrap_or_default().to_owned(),
        body.to_owned(),
    ))
}

/// Asks until the answer is the expected one.
pub(crate) fn eventually<T: PartialEq + std::fmt::Debug>(expected: T, mut ask: impl FnMut() -> T) {
    let begin = Instant::now();
    loop {
        let answer = ask();
        if answer == expected {
            return;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "still {answer:?}, not {expected:?}"
        );
        sleep(Duration::from_millis(5));
    }
}
