//! The end of a request's body in the relay, against a reader that has all of it.

use baton_packet::{Parsed, RequestHead};

use crate::split_first;

/// A byte that says in how long pieces it comes, and a chunked body with what follows.
pub fn run(data: &[u8]) {
    let (piece, body) = split_first(data);
    let head = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let Ok(Parsed::Complete(head)) = RequestHead::parse(head) else {
        panic!("a chunked body is refused");
    };
    let whole = baton_relay::fuzzing::body_length(&head, [body]);
    let pieces = body.chunks(usize::from(piece).max(1));
    assert_eq!(baton_relay::fuzzing::body_length(&head, pieces), whole);
    match whole {
        Ok(Some(length)) => {
            assert_eq!(httparse_end(body), Some(length));
            let own = [&body[..length]];
            assert_eq!(
                baton_relay::fuzzing::body_length(&head, own),
                Ok(Some(length)),
                "without what follows"
            );
        }
        Ok(None) => assert_eq!(httparse_end(body), None, "it ended, and was not noticed"),
        Err(_) => {}
    }
}

/// Where the body ends for httparse, which follows RFC 9112 section 7.1 to the letter.
fn httparse_end(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let Ok(httparse::Status::Complete((line, size))) =
            httparse::parse_chunk_size(body.get(at..)?)
        else {
            return None;
        };
        at += line;
        if size == 0 {
            break;
        }
        at = at.checked_add(usize::try_from(size).ok()?)?;
        if body.get(at..at.checked_add(2)?)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    // Trailer lines, the last of them empty.
    loop {
        let line = body.get(at..)?.windows(2).position(|two| two == b"\r\n")?;
        at += line + 2;
        if line == 0 {
            return Some(at);
        }
    }
}
