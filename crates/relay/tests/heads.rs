//! Request heads that no server gets to see.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::time::Duration;

use baton_relay::Limits;
use common::{Origin, Relay};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// What the answer to `request` says.
async fn refused(relay: &Relay, request: &str) -> (u16, String) {
    let mut client = relay.connect().await;
    client.send(request).await;
    let head = client.head().await;
    assert_eq!(head.one("connection"), "close", "{request:?}");
    let body = client.rest().await;
    assert_eq!(head.one("content-length"), body.len().to_string());
    (head.status(), String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn ambiguous_requests_are_400_and_reach_no_server() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let requests = [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\u{b}chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0",
        "nonsense\r\n\r\n",
    ];
    for request in requests {
        let (status, text) = refused(&relay, request).await;
        assert_eq!(status, 400, "{request:?}: {text}");
        assert!(
            text.starts_with("400 Bad Request: ") && text.len() > 25,
            "{request:?}: {text}"
        );
    }
    assert_eq!(relay.stats.answers(4), requests.len() as u64);
    assert_eq!(relay.stats.upstream_connections(), 0);
}

#[tokio::test]
async fn what_is_refused_takes_nothing_from_the_answer_before() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let mut client = relay.connect().await;
    client
        .send(format!(
            "{GET}GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nnever read"
        ))
        .await;
    let mut server = origin.accept().await;
    server.head().await;
    let body = vec![b'x'; 3 << 20];
    server
        .send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ))
        .await;
    let (_, head) = tokio::join!(server.send(&body), client.head());
    assert!(client.body(&head).await == body);
    assert_eq!(client.head().await.status(), 400);
    assert!(
        client
            .rest()
            .await
            .starts_with(b"400 Bad Request: there must be exactly one Host field")
    );
}

#[tokio::test]
async fn connect_is_501() {
    let origin = Origin::start().await;
    let relay = Relay::to(&[&origin]).await;
    let (status, text) = refused(&relay, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n").await;
    assert_eq!(
        (status, text.as_str()),
        (501, "501 Not Implemented: CONNECT is not supported here\n")
    );
}

#[tokio::test]
async fn a_long_head_is_431_whether_or_not_it_ends() {
    let origin = Origin::start().await;
    let relay = Relay::with(
        &[&origin],
        Limits {
            max_head_bytes: 10_000,
            ..Limits::default()
        },
    )
    .await;
    let long = "x".repeat(10_000);
    for end in ["\r\n\r\n", ""] {
        let (status, _) = refused(
            &relay,
            &format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}{end}"),
        )
        .await;
        assert_eq!(status, 431);
    }
    let fits = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(9_900)
    );
    let mut client = relay.connect().await;
    client.send(fits).await;
    origin.accept().await.head().await;
}

#[tokio::test]
async fn a_slow_head_is_408_and_an_idle_client_is_dismissed() {
    let origin = Origin::start().await;
    let limits = Limits {
        head_timeout: Duration::from_millis(150),
        idle_timeout: Duration::from_millis(1500),
        ..Limits::default()
    };
    let relay = Relay::with(&[&origin], limits).await;
    let (status, text) = refused(&relay, "GET / HTTP/1.1\r\nHost: a\r\n").await;
    assert_eq!(
        (status, text.as_str()),
        (408, "408 Request Timeout: the request head took too long\n")
    );

    let mut silent = relay.connect().await;
    assert!(silent.rest().await.is_empty(), "closed without a word");

    let mut client = relay.connect().await;
    client.send(GET).await;
    let mut server = origin.accept().await;
    server.head().await;
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 204);
    client.send("GE").await;
    assert_eq!(
        client.head().await.status(),
        408,
        "the second head counts as well"
    );
}

#[tokio::test]
async fn a_client_that_stops_in_a_body_is_dismissed() {
    let origin = Origin::start().await;
    let limits = Limits {
        idle_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let relay = Relay::with(&[&origin], limits).await;
    let mut client = relay.connect().await;
    client
        .send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        .await;
    let mut server = origin.accept().await;
    server.head().await;
    assert_eq!(server.rest().await, b"abc");
    assert_eq!(client.head().await.status(), 400);
}
