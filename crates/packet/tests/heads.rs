//! Request heads: the corpus of ambiguous messages, and properties.

#![allow(clippy::unwrap_used, clippy::panic)]

use baton_packet::{BodyLength, MAX_HEADERS, Parsed, RequestHead};
use proptest::prelude::*;

#[test]
fn corpus() {
    let mut wrong = Vec::new();
    let mut cases = 0;
    for line in include_str!("corpus/heads.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let [name, expected, message] = line.splitn(3, " | ").collect::<Vec<_>>()[..] else {
            panic!("not `name | verdict | message`: {line}");
        };
        let found = verdict(&unescape(message));
        if found != expected {
            wrong.push(format!("{name}: expected `{expected}`, found `{found}`"));
        }
        cases += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases > 100, "only {cases} cases found in the corpus");
}

fn verdict(message: &[u8]) -> String {
    let head = match RequestHead::parse(message) {
        Err(error) => {
            let name = format!("{error:?}");
            return format!("refuse {}", name.split('(').next().unwrap());
        }
        Ok(Parsed::Partial) => return "partial".into(),
        Ok(Parsed::Complete(head)) => head,
    };
    let body = match head.body {
        BodyLength::Length(length) => length.to_string(),
        BodyLength::Chunked => "chunked".into(),
        BodyLength::Tunnel => "tunnel".into(),
    };
    let or_dash = |text: Option<String>| text.unwrap_or("-".into());
    let (host, query) = (or_dash(head.host), or_dash(head.query));
    format!("ok {host} {} {query} {body} {}", head.path, head.head_len)
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'\\' => b'\\',
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => panic!("unknown escape \\{}", char::from(other)),
            },
            plain => plain,
        });
    }
    bytes
}

#[test]
fn number_of_headers_is_limited() {
    let head = |fields: usize| format!("GET / HTTP/1.0\r\n{}\r\n", "A: b\r\n".repeat(fields));
    assert!(verdict(head(MAX_HEADERS).as_bytes()).starts_with("ok"));
    assert_eq!(
        verdict(head(MAX_HEADERS + 1).as_bytes()),
        "refuse TooManyHeaders"
    );
}

#[test]
fn connection_and_expectation() {
    let head = |text: &str| match RequestHead::parse(text.as_bytes()).unwrap() {
        Parsed::Complete(head) => head,
        Parsed::Partial => panic!("partial"),
    };
    assert!(head("GET / HTTP/1.1\r\nHost: a\r\n\r\n").keep_alive);
    assert!(
        !head("GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: TE, Close\r\n\r\n")
            .keep_alive
    );
    assert!(!head("GET / HTTP/1.0\r\n\r\n").keep_alive);
    assert!(head("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
    assert!(head("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n").expects_continue);
    assert!(!head("PUT / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expects_continue);
    assert!(head("HEAD / HTTP/1.0\r\n\r\n").is_head_method());
    assert!(!head("head / HTTP/1.0\r\n\r\n").is_head_method());
}

#[derive(Clone, Debug)]
struct Message {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    length: Option<u32>,
    empty_line_first: bool,
}

impl Message {
    fn bytes(&self) -> Vec<u8> {
        let mut text = String::new();
        if self.empty_line_first {
            text += "\r\n";
        }
        text += &format!(
            "{} {} HTTP/1.1\r\nHost: example.com\r\n",
            self.method, self.target
        );
        for (name, value) in &self.fields {
            text += &format!("{name}: {value}\r\n");
        }
        if let Some(length) = self.length {
            text += &format!("Content-Length: {length}\r\n");
        }
        (text + "\r\n").into_bytes()
    }
}

fn message() -> impl Strategy<Value = Message> {
    let method = prop_oneof![Just("GET".to_owned()), "[A-Z]{1,12}"]
        .prop_filter("has a form of its own", |method| method != "CONNECT");
    let field = ("X-[a-zA-Z0-9-]{1,12}", "([!-~]([ -~]{0,30}[!-~])?)?");
    (
        method,
        "/[a-zA-Z0-9./%]{0,20}(\\?[a-z=&?]{0,10})?",
        proptest::collection::vec(field, 0..8),
        any::<Option<u32>>(),
        any::<bool>(),
    )
        .prop_map(
            |(method, target, fields, length, empty_line_first)| Message {
                method,
                target,
                fields,
                length,
                empty_line_first,
            },
        )
}

proptest! {
    #[test]
    fn what_was_written_is_read(message in message(), behind in proptest::collection::vec(any::<u8>(), 0..40)) {
        let bytes = message.bytes();
        let Parsed::Complete(head) = RequestHead::parse(&[&bytes[..], &behind].concat()).unwrap() else {
            panic!("partial");
        };
        prop_assert_eq!(head.head_len, bytes.len());
        prop_assert_eq!(&head.method, &message.method);
        let target = head.query.as_ref().map_or(head.path.clone(), |query| format!("{}?{query}", head.path));
        prop_assert_eq!(target, message.target);
        prop_assert_eq!(head.host.as_deref(), Some("example.com"));
        prop_assert_eq!(head.body, BodyLength::Length(message.length.unwrap_or(0).into()));
        for (name, _) in &message.fields {
            let same = |other: &&(String, String)| other.0.eq_ignore_ascii_case(name);
            let written: Vec<_> = message.fields.iter().filter(same).map(|(_, value)| value.as_bytes()).collect();
            prop_assert_eq!(head.header_values(name).collect::<Vec<_>>(), written);
        }
    }

    #[test]
    fn every_beginning_of_a_head_is_partial(message in message()) {
        let bytes = message.bytes();
        for end in 0..bytes.len() {
            prop_assert_eq!(RequestHead::parse(&bytes[..end]), Ok(Parsed::Partial), "{} bytes", end);
        }
    }

    /// A refused beginning stays refused, and a complete head stays the same: what arrives in pieces is read as if whole.
    #[test]
    fn verdicts_are_final(message in message(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = message.bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let mut last = Ok(Parsed::Partial);
        for end in 0..=bytes.len() {
            let next = RequestHead::parse(&bytes[..end]);
            match &last {
                Ok(Parsed::Partial) => {}
                Err(_) => prop_assert!(next.is_err()),
                complete => prop_assert_eq!(&next, complete),
            }
            last = next;
        }
    }

    #[test]
    fn anything_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = RequestHead::parse(&bytes);
    }
}
