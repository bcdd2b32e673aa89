//! What changes in a head on its way through.

use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields for one hop only, whether or not Connection names them (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    // Not a field of HTTP at all, but CGI would take it for the environment's HTTP_PROXY.
    HeaderName::from_static("proxy"),
];

/// Removes what is for one hop only. The protocols that an Upgrade offers are returned if Connection names it.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let mut upgrades = false;
    if headers.contains_key(CONNECTION) {
        for name in named_by_connection(headers) {
            upgrades |= name == UPGRADE;
            // Host is never for one hop; a client that says so would choose what the server sees instead.
            if name != HOST && name != UPGRADE {
                headers.remove(name);
            }
        }
    }
    let protocols = headers.get(UPGRADE).filter(|_| upgrades).cloned();
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    protocols
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(CONNECTION).into_iter();
    let names = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    names
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect()
}

/// Whether clients might disagree on where an answer with these fields ends (RFC 9112, section 6.3), or not know its
/// transfer coding once the field that names it is gone.
pub(crate) fn is_ambiguous(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).into_iter();
    let mut codings = headers.get_all(TRANSFER_ENCODING).into_iter();
    match (lengths.next(), codings.next()) {
        (None, None) => false,
        (Some(_), None) => lengths.next().is_some(),
        (None, Some(coding)) => {
            codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        }
        (Some(_), Some(_)) => true,
    }
}

/// Asks for a change of protocol, or confirms it.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, protocols: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocols);
}

/// Whether only HTTP/2 is offered. A relay speaks HTTP/1.1 and answers as a server that knows no HTTP/2 would.
pub(crate) fn is_http2(protocols: &HeaderValue) -> bool {
    protocols.as_bytes().eq_ignore_ascii_case(b"h2c")
}

/// Tells the server who asked, and for what. Of what a client claims, only the list of X-Forwarded-For stays.
pub(crate) fn set_forwarded(headers: &mut HeaderMap, client: &HeaderValue) {
    let earlier: Vec<&[u8]> = headers
        .get_all(X_FORWARDED_FOR)
        .into_iter()
        .map(HeaderValue::as_bytes)
        .collect();
    let list = if earlier.is_empty() {
        client.clone()
    } else {
        let list = [earlier.join(&b", "[..]).as_slice(), client.as_bytes()].join(&b", "[..]);
        HeaderValue::from_bytes(&list).unwrap_or_else(|_| client.clone())
    };
    headers.insert(X_FORWARDED_FOR, list);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    match headers.get(HOST).cloned() {
        Some(host) => headers.insert(X_FORWARDED_HOST, host),
        None => headers.remove(X_FORWARDED_HOST),
    };
}

/// A client's address as X-Forwarded-For has it.
pub(crate) fn forwarded_for(client: IpAddr) -> HeaderValue {
    // The text of an address is a valid value; `unknown` is what RFC 7239 (section 6.3) would say otherwise.
    HeaderValue::from_str(&client.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |&(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn hop_by_hop_fields_and_those_that_connection_names_go() {
        let mut headers = map(&[
            ("host", "a"),
            ("connection", "keep-alive, X-Private"),
            ("connection", "host"),
            ("x-private", "1"),
            ("x-public", "2"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-connection", "close"),
            ("proxy-authorization", "x"),
            ("proxy-authenticate", "x"),
            ("proxy", "x"),
            ("content-length", "5"),
        ]);
        assert_eq!(
            remove_hop_by_hop(&mut headers),
            None,
            "Upgrade counts only if Connection names it"
        );
        assert_eq!(
            headers,
            map(&[("host", "a"), ("x-public", "2"), ("content-length", "5")])
        );
    }

    #[test]
    fn an_upgrade_is_found() {
        let mut headers = map(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        let protocols = remove_hop_by_hop(&mut headers);
        assert_eq!(protocols, Some(HeaderValue::from_static("websocket")));
        assert!(headers.is_empty());
    }

    #[test]
    fn the_client_is_appended_to_forwarded_for_and_cannot_forge_the_rest() {
        let client = forwarded_for("192.0.2.1".parse().unwrap_or(IpAddr::from([0; 4])));
        let mut headers = map(&[
            ("host", "a.example:80"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2, 3.3.3.3"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
        ]);
        set_forwarded(&mut headers, &client);
        assert_eq!(
            headers,
            map(&[
                ("host", "a.example:80"),
                ("x-forwarded-for", "1.1.1.1, 2.2.2.2, 3.3.3.3, 192.0.2.1"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", "a.example:80"),
            ])
        );
    }
}
