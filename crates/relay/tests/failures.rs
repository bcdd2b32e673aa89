//! What a client is told when a server, or nobody, answers.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use baton_packet::RequestHead;
use baton_relay::{Choice, Dispatch, Limits, UpstreamError};
use common::{Origin, Relay};
use tokio::net::TcpListener;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

struct Always(Choice);

impl Dispatch for Always {
    fn choose(&self, _vip: SocketAddr, _client: SocketAddr, _request: &RequestHead) -> Choice {
        self.0.clone()
    }
}

fn server(address: SocketAddr) -> Always {
    Always(Choice::Server {
        name: Arc::from("web7"),
        address,
    })
}

/// The status and text of the answer to `request`, on a relay that chooses so.
async fn told(choice: Always, request: &str) -> (u16, String, Relay) {
    let relay = Relay::dispatching(choice, Limits::default()).await;
    let (head, body) = relay.ask(request).await;
    assert_eq!(head.one("content-type"), "text/plain; charset=utf-8");
    (head.status(), String::from_utf8(body).unwrap(), relay)
}

#[tokio::test]
async fn no_route_is_404_and_no_server_is_503() {
    let (status, text, relay) = told(Always(Choice::NoRoute), GET).await;
    assert_eq!(
        (status, text.as_str()),
        (404, "404 Not Found: no route matches this request\n")
    );
    assert_eq!(relay.stats.answers(4), 1);
    let (status, text, relay) = told(Always(Choice::NoServer), GET).await;
    assert_eq!(status, 503);
    assert_eq!(
        text,
        "503 Service Unavailable: no server is available for this request\n"
    );
    assert_eq!(relay.stats.answers(5), 1);
}

#[tokio::test]
async fn a_body_that_nobody_wants_ends_the_connection() {
    let (_, _, relay) = told(Always(Choice::NoRoute), GET).await;
    let mut client = relay.connect().await;
    client
        .send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        .await;
    client.send(vec![b'x'; 300_000]).await;
    let head = client.head().await;
    assert_eq!((head.status(), head.one("connection")), (404, "close"));
    assert_eq!(
        client.rest().await,
        b"404 Not Found: no route matches this request\n"
    );
    // What the client still sends is no reason for a reset, which could overtake the answer.
    for _ in 0..3 {
        client.send(vec![b'x'; 10_000]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_connection_outlives_an_answer_of_the_relay() {
    let relay = Relay::dispatching(Always(Choice::NoRoute), Limits::default()).await;
    let mut client = relay.connect().await;
    for _ in 0..3 {
        client.send(GET).await;
        let head = client.head().await;
        assert_eq!(head.status(), 404);
        client.body(&head).await;
    }
    assert_eq!(relay.stats.connections(), 1);
}

#[tokio::test]
async fn a_server_that_refuses_is_502() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (status, text, relay) = told(server(address), GET).await;
    assert_eq!(status, 502);
    assert_eq!(
        text,
        "502 Bad Gateway: server web7 refused the connection or cannot be reached\n"
    );
    assert_eq!(relay.stats.upstream_errors(UpstreamError::Connect), 1);
}

#[tokio::test]
async fn a_server_that_closes_resets_or_babbles_is_502() {
    for (answer, resets, kind) in [
        ("", false, UpstreamError::Closed),
        ("", true, UpstreamError::Closed),
        ("HTTP/1.1 200 OK\r\nContent-", false, UpstreamError::Closed),
        ("SSH-2.0-OpenSSH_9.2\r\n", false, UpstreamError::Malformed),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            false,
            UpstreamError::Malformed,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            false,
            UpstreamError::Malformed,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            false,
            UpstreamError::Malformed,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            false,
            UpstreamError::Malformed,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            false,
            UpstreamError::Malformed,
        ),
    ] {
        let origin = Origin::start().await;
        let relay = Relay::to(&[&origin]).await;
        let mut client = relay.connect().await;
        client.send(GET).await;
        let mut server = origin.accept().await;
        server.head().await;
        server.send(answer).await;
        if resets {
            server.reset()
        } else {
            drop(server)
        }
        let head = client.head().await;
        let text = String::from_utf8(client.body(&head).await).unwrap();
        assert_eq!(head.status(), 502, "{answer:?}");
        assert!(text.contains(&origin.address.to_string()), "{text}");
        assert_eq!(relay.stats.upstream_errors(kind), 1, "{answer:?}");
    }
}

fn brief() -> Limits {
    let brief = Duration::from_millis(600);
    Limits {
        connect_timeout: brief,
        response_timeout: brief,
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_504() {
    let origin = Origin::start().await;
    let relay = Relay::with(&[&origin], brief()).await;
    let mut client = relay.connect().await;
    client.send(GET).await;
    let mut server = origin.accept().await;
    server.head().await;
    let head = client.head().await;
    let text = String::from_utf8(client.body(&head).await).unwrap();
    assert_eq!(head.status(), 504);
    assert!(text.ends_with("did not answer in time\n"), "{text}");
    assert_eq!(
        relay.stats.upstream_errors(UpstreamError::ResponseTimeout),
        1
    );
    server.ended().await;
}

/// A listener whose queue of connections is full drops SYNs.
#[tokio::test]
async fn a_server_that_does_not_accept_is_504() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(connection) = tokio::time::timeout(
        Duration::from_millis(200),
        tokio::net::TcpStream::connect(address),
    )
    .await
    {
        queue.push(connection.unwrap());
        assert!(queue.len() < 100, "the queue never fills");
    }
    let relay = Relay::dispatching(server(address), brief()).await;
    let (head, text) = relay.ask(GET).await;
    assert_eq!(head.status(), 504, "{}", String::from_utf8_lossy(&text));
    assert_eq!(
        relay.stats.upstream_errors(UpstreamError::ConnectTimeout),
        1
    );
}

/// The time runs while it is the server's turn, not while the client takes its time with the body.
#[tokio::test]
async fn a_slow_upload_is_not_the_servers_fault() {
    let origin = Origin::start().await;
    let relay = Relay::with(&[&origin], brief()).await;
    let mut client = relay.connect().await;
    client
        .send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
        .await;
    let mut server = origin.accept().await;
    server.head().await;
    for piece in ["ab", "cd"] {
        tokio::time::sleep(Duration::from_millis(900)).await;
        client.send(piece).await;
    }
    assert_eq!(server.bytes(4).await, b"abcd");
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 204);
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_the_clients_connection() {
    for (head, then, resets) in [
        ("Content-Length: 100\r\n\r\nshort", "", false),
        ("Content-Length: 100\r\n\r\nshort", "", true),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
            "",
            false,
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
            "x\r\n",
            false,
        ),
        ("\r\nno length", "", true),
    ] {
        for version in ["1.0", "1.1"] {
            let origin = Origin::start().await;
            let relay = Relay::to(&[&origin]).await;
            let mut client = relay.connect().await;
            client
                .send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"))
                .await;
            let mut server = origin.accept().await;
            server.head().await;
            server.send(format!("HTTP/1.1 200 OK\r\n{head}")).await;
            assert_eq!(client.head().await.status(), 200);
            server.send(then).await;
            if resets {
                server.reset()
            } else {
                drop(server)
            }
            assert!(
                !client.ended().await,
                "{head:?} looks complete to HTTP/{version}"
            );
            assert_eq!(relay.stats.upstream_errors(UpstreamError::Broken), 1);
        }
    }
}

#[tokio::test]
async fn a_chunked_body_that_is_malformed_is_400_and_never_complete() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let mut client = relay.connect().await;
    client
        .send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .await;
    let mut server = origin.accept().await;
    server.head().await;
    assert_eq!(server.bytes(8).await, b"3\r\nabc\r\n");
    client.send("0x0\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(head.status(), 400);
    assert_eq!(head.one("connection"), "close");
    assert_eq!(
        client.rest().await,
        b"400 Bad Request: the request's body is malformed or broke off\n"
    );
    assert!(server.rest().await.is_empty(), "no last chunk");
}
