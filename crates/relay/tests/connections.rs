//! Clients that leave, wait, change protocol or are many; and the end of the relay itself.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::time::Duration;

use baton_relay::Limits;
use common::{Origin, Peer, Relay, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    for resets in [false, true] {
        let origin = Origin::start().await;
        let relay = Relay::to(&[&origin]).await;
        let mut client = relay.connect().await;
        client.send(GET).await;
        let mut server = origin.accept().await;
        server.head().await;
        if resets {
            client.reset()
        } else {
            drop(client)
        }
        server.ended().await;
        until("the connection's end", || {
            relay.stats.connections_active() == 0
        })
        .await;
        assert_eq!(relay.stats.requests_active(), 0);
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_an_answer_stops_it() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let mut client = relay.connect().await;
    client.send(GET).await;
    let mut server = origin.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        .await;
    client.head().await;
    drop(client);
    let piece = vec![0; 1 << 20];
    common::soon("the end of the answer", async {
        while tokio::io::AsyncWriteExt::write_all(&mut server.stream, &piece)
            .await
            .is_ok()
        {}
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_in_its_body_does_not_complete_it() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let mut client = relay.connect().await;
    client
        .send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .await;
    let mut server = origin.accept().await;
    server.head().await;
    drop(client);
    assert_eq!(server.rest().await, b"3\r\nabc\r\n");
}

#[tokio::test]
async fn a_client_that_only_ends_its_side_is_answered() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let mut client = relay.connect().await;
    client.send(GET).await;
    client.end().await;
    let mut server = origin.accept().await;
    server.head().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        .await;
    client.head().await;
    assert_eq!(client.bytes(3).await, b"abc");
    // The answer has begun: it may take its time.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    server.send("def").await;
    assert_eq!(client.rest().await, b"def");
}

#[tokio::test]
async fn a_body_waits_until_the_server_wants_it() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let request = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    let mut client = relay.connect().await;
    client.send(request).await;
    let mut server = origin.accept().await;
    assert_eq!(server.head().await.one("expect"), "100-continue");
    assert!(
        client.is_silent().await,
        "100 Continue is the server's to say"
    );
    server.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 100);
    client.send("abc").await;
    assert_eq!(server.bytes(3).await, b"abc");
    server
        .send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status(), 201);

    client.send(request).await;
    server.head().await;
    server
        .send("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        .await;
    let head = client.head().await;
    assert_eq!(
        (head.status(), head.one("connection")),
        (413, "close"),
        "no body was asked for"
    );
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn a_server_that_knows_no_expectations_gets_the_body_all_the_same() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let mut client = relay.connect().await;
    client
        .send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        .await;
    let mut server = origin.accept().await;
    server.head().await;
    assert_eq!(client.head().await.status(), 100, "after a while");
    client.send("abc").await;
    assert_eq!(server.bytes(3).await, b"abc");
}

async fn upgraded(relay: &Relay, origin: &Origin) -> (Peer, Peer) {
    let mut client = relay.connect().await;
    client
        .send("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    let mut server = origin.accept().await;
    let request = server.head().await;
    assert_eq!(
        (request.one("connection"), request.one("upgrade")),
        ("upgrade", "websocket")
    );
    // The first bytes of the new protocol come with the head of the answer.
    server
        .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Key: k\r\n\r\nhello")
        .await;
    let answer = client.head().await;
    assert_eq!(
        (answer.status(), answer.one("upgrade"), answer.one("x-key")),
        (101, "websocket", "k")
    );
    assert_eq!(answer.one("connection").to_ascii_lowercase(), "upgrade");
    assert_eq!(client.bytes(5).await, b"hello");
    (client, server)
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let (mut client, mut server) = upgraded(&relay, &origin).await;
    client
        .send("GET / HTTP/1.1\r\n\r\n: not a request any more")
        .await;
    assert_eq!(
        server.bytes(42).await,
        b"GET / HTTP/1.1\r\n\r\n: not a request any more"
    );
    server.send("back").await;
    assert_eq!(client.bytes(4).await, b"back");
    client.end().await;
    assert!(server.rest().await.is_empty(), "the end passes");
    server.send("last words").await;
    server.end().await;
    assert_eq!(client.rest().await, b"last words");
    until("the tunnel's end", || relay.stats.connections_active() == 0).await;

    let (client, mut server) = upgraded(&relay, &origin).await;
    client.reset();
    server.ended().await;
    until("the tunnel's end", || relay.stats.connections_active() == 0).await;
}

#[tokio::test]
async fn an_upgrade_that_the_server_declines_changes_nothing() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let mut client = relay.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 3\r\n\r\nabc")
        .await;
    let mut server = origin.accept().await;
    assert_eq!(server.head().await.one("upgrade"), "x");
    assert_eq!(server.bytes(3).await, b"abc");
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 204);

    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n")
        .await;
    let request = server.head().await;
    assert!(
        !request.has("upgrade") && !request.has("http2-settings"),
        "HTTP/2 is not offered on"
    );
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 204);
}

#[tokio::test]
async fn more_clients_than_allowed_wait() {
    let origin = Origin::start().await;
    let relay = Relay::with(
        &[&origin],
        Limits {
            max_connections: 1,
            ..Limits::default()
        },
    )
    .await;
    let mut first = relay.connect().await;
    first.send(GET).await;
    let mut server = origin.accept().await;
    server.head().await;
    let mut second = relay.connect().await;
    second.send(GET).await;
    assert!(second.is_silent().await);
    assert_eq!(relay.stats.connections(), 1);

    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(first.head().await.status(), 204);
    drop(first);
    server.head().await;
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(second.head().await.status(), 204);
}

#[tokio::test]
async fn new_limits_hold_for_new_connections() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    relay
        .limits
        .send_modify(|limits| limits.max_head_bytes = 50);
    let (head, _) = relay
        .ask(&format!(
            "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
            "x".repeat(50)
        ))
        .await;
    assert_eq!(head.status(), 431);
}

#[tokio::test]
async fn a_shutdown_lets_requests_finish() {
    let origin = Origin::start().await;
    let mut relay = Relay::to(&[&origin]).await;
    let mut idle = relay.connect().await;
    let mut busy = relay.connect().await;
    busy.send(GET).await;
    let mut server = origin.accept().await;
    server.head().await;
    until("both connections", || relay.stats.connections() == 2).await;

    relay.begin_shutdown();
    assert!(idle.rest().await.is_empty());
    let refused = tokio::net::TcpStream::connect(relay.address).await;
    assert!(refused.is_err(), "no new connections");
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        .await;
    let head = busy.head().await;
    assert_eq!(head.one("connection"), "close");
    assert_eq!(busy.rest().await, b"done");
    relay.ended().await;
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let origin = Origin::start().await;
    let limits = Limits {
        shutdown_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let mut relay = Relay::with(&[&origin], limits).await;
    let mut client = relay.connect().await;
    client.send(GET).await;
    origin.accept().await.head().await;
    relay.begin_shutdown();
    relay.ended().await;
    client.ended().await;
}

#[tokio::test]
async fn idle_server_connections_are_closed_in_time() {
    let origin = Origin::start().await;
    let relay = Relay::with(
        &[&origin],
        Limits {
            idle_timeout: Duration::from_millis(100),
            ..Limits::default()
        },
    )
    .await;
    let mut client = relay.connect().await;
    client.send(GET).await;
    let mut server = origin.accept().await;
    server.head().await;
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    client.head().await;
    assert!(server.ended().await);
}
