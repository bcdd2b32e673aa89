//! What the kernel is taught: one whole request in one segment, and nothing else.

use super::*;
use crate::Lesson;

const POOL: PoolId = PoolId(4);

fn teacher() -> Bench {
    let mut bench = expected();
    bench.decide.pool = Some(POOL);
    bench
}

fn lessons(actions: &[Action]) -> Vec<&Lesson> {
    let lessons = actions.iter().filter_map(|action| match action {
        Action::Learn(lesson) => Some(lesson),
        _ => None,
    });
    lessons.collect()
}

#[test]
fn first_and_later_requests_are_taught() {
    let mut bench = teacher();
    let head = b"HEAD /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let first = bench.send(FIRST, &get("/1"));
    let second = bench.send(bench.entry().boundary, head);
    let lesson = |request: &[u8], is_head_method| Lesson {
        vip: VIP,
        request: Bytes::copy_from_slice(request),
        pool: POOL,
        is_head_method,
    };
    assert_eq!(lessons(&first), [&lesson(&get("/1"), false)]);
    assert_eq!(lessons(&second), [&lesson(head, true)]);
}

#[test]
fn a_whole_post_is_taught_and_its_beginning_is_not() {
    let request = post("/1", b"12345");
    assert_eq!(lessons(&teacher().send(FIRST, &request)).len(), 1);
    let half = &request[..request.len() - 1];
    assert!(lessons(&teacher().send(FIRST, half)).is_empty());
}

#[test]
fn what_is_not_one_request_in_one_segment_is_not_taught() {
    let two = [get("/1"), get("/1")].concat();
    let chunked = b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for bytes in [&two[..], chunked, &get("/relay"), b"garbage\r\n\r\n"] {
        let taught = teacher().send(FIRST, bytes);
        assert!(lessons(&taught).is_empty(), "{}", brief(&taught));
    }
}

#[test]
fn a_request_that_came_in_pieces_is_taught_as_it_is_sent_on() {
    let mut pieces = teacher();
    let request = get("/1");
    pieces.send(FIRST, &request[..9]);
    let rest = pieces.send(FIRST + 9, &request[9..]);
    assert_eq!(lessons(&rest)[0].request, request);
}

#[test]
fn a_request_that_waited_for_a_release_is_not_taught() {
    let mut bench = teacher();
    bench.send(FIRST, &get("/1"));
    let (bound, next) = (bench.entry(), bench.entry().boundary);
    bench.send(next, &get("/2"));
    let moved = bench.handle(bench.answer(Outcome::Released {
        ack: bound.newest_ack,
    }));
    assert_ne!(bench.entry().bound, bound.bound);
    assert!(
        lessons(&moved).is_empty(),
        "the rules may be others by now: {}",
        brief(&moved)
    );
}

#[test]
fn what_is_held_behind_a_request_is_claimed() {
    let mut bench = expected();
    let and_a_part = [get("/1"), b"GET".to_vec()].concat();
    bench.send(FIRST, &and_a_part);
    assert!(bench.entry().claimed);
    let end = bench.entry().boundary;
    bench.send(end + 3, &get("/1")[3..]);
    assert!(!bench.entry().claimed);
}
