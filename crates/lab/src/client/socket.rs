//! A WebSocket whose server echoes what it is told (`/socket`).

use std::io::BufRead;
use std::net::TcpStream;

use anyhow::{Context, bail, ensure};

use super::fetch::{Connection, Request};
use crate::websocket::{self, Frame};

/// Any will do.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
/// Control frames are no longer (RFC 6455 5.5).
const SHORT: usize = 125;

/// A connection that has become a WebSocket.
pub(crate) struct Socket(Connection);

impl Socket {
    /// # Errors
    /// When the server does not switch.
    pub(crate) fn open(mut connection: Connection, pool: &str) -> anyhow::Result<Self> {
        let handshake = Request::new("GET", format!("/{pool}/socket"))
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", websocket::KEY);
        connection.send(&handshake)?;
        let switched = connection.head()?;
        ensure!(
            switched.interim == [101],
            "{} instead of 101",
            switched.status
        );
        Ok(Self(connection))
    }

    /// Sends message `number`, of `length` bytes, and waits until it comes back: a text, bytes, or, if it is short, a ping.
    ///
    /// # Errors
    /// When something else comes back, or nothing.
    pub(crate) fn echo(&mut self, number: usize, length: usize) -> anyhow::Result<()> {
        let (opcode, back) = match number % 3 {
            0 if length <= SHORT => (websocket::PING, websocket::PONG),
            1 => (websocket::TEXT, websocket::TEXT),
            _ => (websocket::BINARY, websocket::BINARY),
        };
        let payload = (0..length)
            .map(|at| b'a' + ((at + number) % 26) as u8)
            .collect();
        self.exchange(opcode, back, payload)
            .with_context(|| format!("message {number}"))
    }

    /// Says goodbye, and waits until the server closes.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn close(mut self) -> anyhow::Result<()> {
        let normal = 1000u16.to_be_bytes();
        self.exchange(websocket::CLOSE, websocket::CLOSE, normal.into())?;
        match self.0.input().fill_buf() {
            Ok([]) => Ok(()),
            Ok(more) => bail!("{} bytes more than expected", more.len()),
            Err(error) => Err(error).context("the connection does not end"),
        }
    }

    fn exchange(&mut self, opcode: u8, back: u8, payload: Vec<u8>) -> anyhow::Result<()> {
        let mut frame = Frame { opcode, payload };
        let mut output: &TcpStream = self.0.stream();
        frame.write(&mut output, Some(MASK))?;
        frame.opcode = back;
        let answer = Frame::read(self.0.input()).context("no echo")?;
        ensure!(answer == frame, "another message came back");
        Ok(())
    }
}
