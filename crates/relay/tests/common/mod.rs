//! A relay between a client and servers that the test plays byte by byte.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    unreachable_pub,
    missing_docs
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use baton_relay::{Dispatch, Limits, RoundRobin, Stats, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// Nothing here takes longer unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long for {what}"),
    }
}

/// Waits until `condition` holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub struct Relay {
    pub address: SocketAddr,
    pub stats: Arc<Stats>,
    pub limits: watch::Sender<Limits>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Relay {
    pub async fn to(origins: &[&Origin]) -> Self {
        Self::with(origins, Limits::default()).await
    }

    pub async fn with(origins: &[&Origin], limits: Limits) -> Self {
        Self::dispatching(
            RoundRobin::new(origins.iter().map(|origin| origin.address)),
            limits,
        )
        .await
    }

    pub async fn dispatching(dispatch: impl Dispatch, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stats = Arc::new(Stats::default());
        let (limits, receiver) = watch::channel(limits);
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(serve(
            listener,
            Arc::new(dispatch),
            receiver,
            Arc::clone(&stats),
            shutdown,
        ));
        Self {
            address,
            stats,
            limits,
            stop: Some(stop),
            task,
        }
    }

    pub async fn connect(&self) -> Peer {
        Peer::new(
            soon("connecting", TcpStream::connect(self.address))
                .await
                .unwrap(),
        )
    }

    /// One request on a connection of its own: the head of the answer, and everything behind it.
    pub async fn ask(&self, request: &str) -> (Head, Vec<u8>) {
        let mut client = self.connect().await;
        client.send(request).await;
        let head = client.head().await;
        let body = client.body(&head).await;
        (head, body)
    }

    pub fn begin_shutdown(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub async fn ended(self) {
        soon("the relay's end", self.task).await.unwrap();
    }
}

pub struct Origin {
    pub address: SocketAddr,
    listener: TcpListener,
}

impl Origin {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            listener,
        }
    }

    pub async fn accept(&self) -> Peer {
        Peer::new(
            soon("a connection from the relay", self.listener.accept())
                .await
                .unwrap()
                .0,
        )
    }

    /// Whether nobody connects to it for a while.
    pub async fn is_left_alone(&self) -> bool {
        tokio::time::timeout(Duration::from_millis(50), self.listener.accept())
            .await
            .is_err()
    }
}

/// One end of a connection.
pub struct Peer {
    pub stream: TcpStream,
    read: Vec<u8>,
}

/// First line and fields, names in lower case.
#[derive(Debug)]
pub struct Head {
    pub first: String,
    pub fields: Vec<(String, String)>,
}

impl Head {
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub fn one(&self, name: &str) -> &str {
        match self.all(name)[..] {
            [value] => value,
            ref values => panic!("{name} is there {} times in {self:?}", values.len()),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    pub fn status(&self) -> u16 {
        self.first
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("{self:?}"))
    }
}

impl Peer {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon("sending", self.stream.write_all(bytes.as_ref()))
            .await
            .unwrap();
    }

    pub async fn end(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Closes with a reset.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    pub async fn head(&mut self) -> Head {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if self.more().await.unwrap() == 0 {
                panic!(
                    "connection ended in a head: {:?}",
                    String::from_utf8_lossy(&self.read)
                );
            }
        };
        let head = String::from_utf8(self.read.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().unwrap().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        Head {
            first,
            fields: lines.map(field).collect(),
        }
    }

    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert_ne!(
                self.more().await.unwrap(),
                0,
                "connection ended after {} of {count} bytes",
                self.read.len()
            );
        }
        self.read.drain(..count).collect()
    }

    pub async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(self.bytes(1).await);
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    pub async fn chunked(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(&self.line().await, 16).unwrap();
            body.extend(self.bytes(size).await);
            assert_eq!(self.line().await, "");
            if size == 0 {
                return body;
            }
        }
    }

    /// The body by the framing that the head tells.
    pub async fn body(&mut self, head: &Head) -> Vec<u8> {
        match (
            head.all("content-length")[..].first(),
            head.has("transfer-encoding"),
        ) {
            (Some(length), false) => self.bytes(length.parse().unwrap()).await,
            (None, true) => self.chunked().await,
            (None, false) => self.rest().await,
            (Some(_), true) => panic!("two lengths: {head:?}"),
        }
    }

    /// Everything up to the end of the stream.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await.unwrap() > 0 {}
        std::mem::take(&mut self.read)
    }

    /// Waits for the other side's end or reset; whether it was an end.
    pub async fn ended(&mut self) -> bool {
        loop {
            match self.more().await {
                Ok(0) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    /// Whether nothing comes for a while.
    pub async fn is_silent(&mut self) -> bool {
        self.read.is_empty()
            && tokio::time::timeout(
                Duration::from_millis(100),
                self.stream.read_buf(&mut self.read),
            )
            .await
            .is_err()
    }

    async fn more(&mut self) -> std::io::Result<usize> {
        soon("bytes", self.stream.read_buf(&mut self.read)).await
    }
}
