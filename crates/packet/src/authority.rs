//! `host[:port]` as a Host field or a request target carries it.

use std::net::{Ipv4Addr, Ipv6Addr};

/// An authority without user information.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    /// Lowercase, without the dot of a fully qualified name; an IPv6 address keeps its brackets.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
}

impl Authority {
    /// Stricter than RFC 3986, section 3.2.2: names are letters, digits, `-`, `_` and `.`, because percent escapes
    /// and delimiters are read differently by different servers, and no DNS name needs them.
    pub(crate) fn parse(text: &str) -> Option<Authority> {
        let (host, port) = match text.rfind(']') {
            Some(end) => text.split_at(end + 1),
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            _ => return None,
        };
        Some(Authority {
            host: host_name(host)?,
            port,
        })
    }
}

fn host_name(text: &str) -> Option<String> {
    if let Some(literal) = text.strip_prefix('[') {
        let address: Ipv6Addr = literal.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let valid = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let numeric = name
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    (name.split('.').all(valid) && (!numeric || name.parse::<Ipv4Addr>().is_ok()))
        .then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(String, Option<u16>)> {
        Authority::parse(text).map(|authority| (authority.host, authority.port))
    }

    #[test]
    fn names_and_addresses() {
        assert_eq!(parsed("Example.COM"), Some(("example.com".into(), None)));
        assert_eq!(
            parsed("example.com.:80"),
            Some(("example.com".into(), Some(80)))
        );
        assert_eq!(parsed("my_host:"), Some(("my_host".into(), None)));
        assert_eq!(
            parsed("192.0.2.1:8080"),
            Some(("192.0.2.1".into(), Some(8080)))
        );
        assert_eq!(
            parsed("[2001:DB8:0::1]:80"),
            Some(("[2001:db8::1]".into(), Some(80)))
        );
    }

    #[test]
    fn what_is_none() {
        for text in [
            "",
            ":80",
            ".",
            "a..b",
            ".a",
            "a:b",
            "a:-1",
            "a:65536",
            "a:80:80",
            "user@a",
            "a/b",
            "a,b",
            "a b",
            "a%2eb",
            "ä",
            "[::1",
            "::1",
            "[::1]x",
            "[::1%25eth0]",
            "x[::1]",
            "999.1.1.1",
            "1.2.3",
            "2130706433",
            "a]",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
