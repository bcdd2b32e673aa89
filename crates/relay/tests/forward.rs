//! What passes through a relay, and how it looks on the other side.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Origin, Peer, Relay};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_request_and_its_answer_keep_what_is_theirs() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let mut client = relay.connect().await;
    client
        .send(
            "PUT /a%2Fb?q=%20 HTTP/1.1\r\nHost: A.example:81\r\nX-One: 1\r\nX-One: 2\r\nX-Forwarded-For: 192.0.2.7\r\n\
             Connection: X-Secret, keep-alive\r\nX-Secret: s\r\nKeep-Alive: 5\r\nTE: trailers\r\nTrailer: x\r\n\
             Proxy-Connection: x\r\nContent-Length: 3\r\n\r\nabc",
        )
        .await;
    let mut server = origin.accept().await;
    let request = server.head().await;
    assert_eq!(request.first, "PUT /a%2Fb?q=%20 HTTP/1.1");
    assert_eq!(request.one("host"), "A.example:81");
    assert_eq!(request.all("x-one"), ["1", "2"]);
    assert_eq!(request.one("content-length"), "3");
    assert_eq!(request.one("x-forwarded-for"), "192.0.2.7, 127.0.0.1");
    assert_eq!(request.one("x-forwarded-proto"), "http");
    assert_eq!(request.one("x-forwarded-host"), "A.example:81");
    for gone in [
        "x-secret",
        "keep-alive",
        "te",
        "trailer",
        "proxy-connection",
        "connection",
        "transfer-encoding",
    ] {
        assert!(!request.has(gone), "{gone} in {request:?}");
    }
    assert_eq!(server.bytes(3).await, b"abc");

    server
        .send(
            "HTTP/1.1 207 Many Things\r\nContent-Length: 2\r\nConnection: X-Hop\r\nX-Hop: 1\r\nSet-Cookie: a=1\r\n\
             Set-Cookie: b=2\r\nKeep-Alive: timeout=3\r\n\r\nhi",
        )
        .await;
    let answer = client.head().await;
    assert_eq!(answer.first, "HTTP/1.1 207 Many Things");
    assert_eq!(answer.one("content-length"), "2");
    assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
    assert!(!answer.has("x-hop") && !answer.has("keep-alive") && !answer.has("transfer-encoding"));
    assert_eq!(client.bytes(2).await, b"hi");
}

#[tokio::test]
async fn connections_to_servers_are_reused() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let mut first = relay.connect().await;
    first.send(GET).await;
    let mut server = origin.accept().await;
    for turn in 0..10 {
        server.head().await;
        server
            .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")
            .await;
        let head = first.head().await;
        assert_eq!(first.body(&head).await, b"body");
        if turn < 9 {
            first.send(GET).await;
        }
    }
    let mut second = relay.connect().await;
    second.send(GET).await;
    server.head().await;
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(second.head().await.status(), 204);

    assert_eq!(relay.stats.upstream_connections(), 1);
    assert_eq!(relay.stats.upstream_reuses(), 10);
    assert_eq!(relay.stats.connections(), 2);
    assert_eq!(relay.stats.answers(2), 11);
    assert!(origin.is_left_alone().await);
}

#[tokio::test]
async fn requests_take_turns_over_the_servers() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let relay = Relay::to(&[&one, &two]).await;
    let mut client = relay.connect().await;
    let mut servers: Vec<Peer> = Vec::new();
    for turn in 0..6 {
        client.send(GET).await;
        if turn < 2 {
            servers.push(if turn == 0 { &one } else { &two }.accept().await);
        }
        let server = &mut servers[turn % 2];
        server.head().await;
        server
            .send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{turn}"
            ))
            .await;
        let head = client.head().await;
        assert_eq!(client.body(&head).await, turn.to_string().as_bytes());
    }
}

#[tokio::test]
async fn framing_is_kept() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let mut client = relay.connect().await;
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut server = origin.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")
        .await;
    let head = client.head().await;
    assert_eq!((head.status(), head.one("content-length")), (200, "12345"));

    client.send(GET).await;
    server.head().await;
    server
        .send("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"x\"\r\n\r\n")
        .await;
    let head = client.head().await;
    assert_eq!((head.status(), head.one("etag")), (304, "\"x\""));
    assert!(!head.has("transfer-encoding"));

    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(server.head().await.one("content-length"), "0");
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.status() == 204 && !head.has("content-length") && !head.has("transfer-encoding"));

    client.send(GET).await;
    server.head().await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(client.head().await.one("content-length"), "0");

    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n")
        .await;
    let head = server.head().await;
    assert_eq!(head.one("transfer-encoding"), "chunked");
    assert!(!head.has("content-length"));
    assert_eq!(
        server.bytes(8).await,
        b"3\r\nabc\r\n",
        "passed on as it comes"
    );
    client.send("2\r\nde\r\n0\r\nTrailer: x\r\n\r\n").await;
    assert_eq!(server.chunked().await, b"de", "trailers are dropped");
    server
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n")
        .await;
    let head = client.head().await;
    assert_eq!(head.one("transfer-encoding"), "chunked");
    assert_eq!(
        client.bytes(8).await,
        b"3\r\nxyz\r\n",
        "passed on as it comes"
    );
    server.send("0\r\nTrailer: x\r\n\r\n").await;
    assert_eq!(client.chunked().await, b"");

    client.send(GET).await;
    server.head().await;
    server.send("HTTP/1.1 200 OK\r\n\r\nup to the end").await;
    server.end().await;
    let head = client.head().await;
    assert_eq!(client.chunked().await, b"up to the end");
    assert_eq!(head.one("transfer-encoding"), "chunked");
    assert_eq!(
        relay.stats.upstream_connections(),
        1,
        "one connection served all"
    );
}

#[tokio::test]
async fn http_1_0_clients_get_what_they_understand() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let mut client = relay.connect().await;
    client.send("GET /x HTTP/1.0\r\n\r\n").await;
    let mut server = origin.accept().await;
    let request = server.head().await;
    assert_eq!(request.first, "GET /x HTTP/1.1");
    assert_eq!(request.one("host"), relay.address.to_string());
    server
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .await;
    let head = client.head().await;
    assert_eq!(head.first, "HTTP/1.0 200 OK");
    assert!(!head.has("transfer-encoding"));
    assert_eq!(client.rest().await, b"abc");

    let mut client = relay.connect().await;
    for _ in 0..2 {
        client
            .send("GET /x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
            .await;
        server.head().await;
        server
            .send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
            .await;
        let head = client.head().await;
        assert_eq!(head.one("connection"), "keep-alive");
        assert_eq!(client.body(&head).await, b"x");
    }
}

#[tokio::test]
async fn an_absolute_target_becomes_a_path() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let mut client = relay.connect().await;
    client
        .send("GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .await;
    let mut server = origin.accept().await;
    let request = server.head().await;
    assert_eq!(
        (request.first.as_str(), request.one("host")),
        ("GET /x?y HTTP/1.1", "a.example")
    );
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let mut client = relay.connect().await;
    let chunked =
        "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let sized = "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    client
        .send(format!(
            "GET /0 HTTP/1.1\r\nHost: a\r\n\r\n{chunked}{sized}GET /3 HTTP/1.1\r\nHost: a\r\n\r\n"
        ))
        .await;
    let mut server = origin.accept().await;
    for (turn, body) in [&b""[..], b"x", b"abc", b""].into_iter().enumerate() {
        let head = server.head().await;
        assert!(head.first.contains(&format!("/{turn} ")), "{head:?}");
        match turn {
            1 => assert_eq!(server.chunked().await, body),
            _ => assert_eq!(server.bytes(body.len()).await, body),
        }
        assert!(server.is_silent().await, "one request at a time");
        server
            .send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{turn}"
            ))
            .await;
    }
    for turn in 0..4 {
        let head = client.head().await;
        assert_eq!(client.body(&head).await, turn.to_string().as_bytes());
    }
}

#[tokio::test]
async fn a_head_may_come_byte_by_byte() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let mut client = relay.connect().await;
    for byte in b"\r\nPOST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok" {
        client.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    let mut server = origin.accept().await;
    assert_eq!(server.head().await.first, "POST /slow HTTP/1.1");
    assert_eq!(server.bytes(2).await, b"ok");
}

#[tokio::test]
async fn heads_up_to_the_limit_pass() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let mut client = relay.connect().await;
    let long = "x".repeat(60_000);
    client
        .send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX-Long: {long}\r\n\r\n"
        ))
        .await;
    let mut server = origin.accept().await;
    assert_eq!(server.head().await.one("x-long"), long);
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_costs_no_request() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let mut client = relay.connect().await;
    client.send(GET).await;
    let mut server = origin.accept().await;
    server.head().await;
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 204);

    // The request reaches the old connection and is lost there.
    client.send(GET).await;
    server.head().await;
    drop(server);
    let mut server = origin.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2")
        .await;
    let head = client.head().await;
    assert_eq!(client.body(&head).await, b"2");

    // What might have been done already is not asked again.
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        .await;
    server.head().await;
    drop(server);
    assert_eq!(client.head().await.status(), 502);
    assert!(origin.is_left_alone().await);
}

const PIECE: usize = 1 << 16;
const PIECES: usize = 256;

fn piece(at: usize) -> Vec<u8> {
    (0..PIECE)
        .map(|byte| (byte * 31 + at * 7 + byte / 251) as u8)
        .collect()
}

fn expected() -> [u8; 32] {
    let mut hash = Sha256::new();
    (0..PIECES).for_each(|at| hash.update(piece(at)));
    hash.finalize().into()
}

async fn send_pieces(peer: &mut Peer) {
    for at in 0..PIECES {
        peer.stream.write_all(&piece(at)).await.unwrap();
    }
}

async fn hash_of_pieces(peer: &mut Peer) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut left = PIECE * PIECES;
    while left > 0 {
        let count = peer
            .stream
            .read(&mut buffer[..left.min(PIECE)])
            .await
            .unwrap();
        assert_ne!(count, 0, "ended with {left} bytes left");
        hash.update(&buffer[..count]);
        left -= count;
    }
    hash.finalize().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_megabytes_pass_each_way() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let length = PIECE * PIECES;
    let mut client = relay.connect().await;
    client
        .send(format!(
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
        ))
        .await;
    let mut server = origin.accept().await;
    server.head().await;
    let ((), uploaded) = tokio::join!(send_pieces(&mut client), hash_of_pieces(&mut server));
    assert_eq!(uploaded, expected());

    server
        .send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
        ))
        .await;
    client.head().await;
    let ((), downloaded) = tokio::join!(send_pieces(&mut server), hash_of_pieces(&mut client));
    assert_eq!(downloaded, expected());
    assert!(
        relay.stats.bytes_received() > length as u64 && relay.stats.bytes_sent() > length as u64
    );
}

/// What `peer` can send before it is stopped.
async fn sent_until_stopped(peer: &mut Peer) -> usize {
    let mut sent = 0;
    let pause = std::time::Duration::from_millis(500);
    let bytes = vec![0; PIECE];
    while let Ok(count) = tokio::time::timeout(pause, peer.stream.write(&bytes)).await {
        sent += count.unwrap();
        assert!(sent < 1 << 30, "nobody reads, and nobody stops the sender");
    }
    sent
}

/// The kernel's buffers of both connections hold some megabytes; the relay itself may hold one or two more.
#[tokio::test]
async fn a_slow_reader_stops_the_sender() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let mut client = relay.connect().await;
    client
        .send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000000\r\n\r\n")
        .await;
    let mut server = origin.accept().await;
    server.head().await;
    let uploaded = sent_until_stopped(&mut client).await;
    assert!(
        uploaded < 48 << 20,
        "{uploaded} bytes are held for a server that does not read"
    );

    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        .await;
    let downloaded = sent_until_stopped(&mut server).await;
    assert!(
        downloaded < 48 << 20,
        "{downloaded} bytes are held for a client that does not read"
    );
}
