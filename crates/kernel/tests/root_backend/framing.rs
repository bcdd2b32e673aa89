//! Where answers end.

use super::*;

/// One answer as a server may write it.
#[derive(Clone, Debug)]
enum Answer {
    Length(usize),
    Chunked(Vec<usize>),
    ToHead(usize),
    NoBody(u16),
    AfterInterim(usize),
}

fn answer_bytes(answer: &Answer) -> Vec<u8> {
    let body = |n: usize| {
        (0..n)
            .map(|i| b"Content-Length: 9\r\n\r\nHTTP/1.1 200"[i % 33])
            .collect::<Vec<u8>>()
    };
    match answer {
        Answer::Length(n) => [format!("HTTP/1.1 200 OK\r\nServer: x\r\ncontent-LENGTH:  {n}\r\nX-Content-Length: 5\r\n\r\n").into_bytes(), body(*n)].concat(),
        Answer::Chunked(sizes) => {
            // RFC 9112 6.3: chunked, if it is the last coding, whatever a length says.
            let coding = ["Transfer-Encoding: Chunked", "Transfer-Encoding: gzip ,chunked", "Content-Length: 3\r\ntransfer-encoding: gzip\r\nTransfer-Encoding: chunked"];
            let mut bytes = format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", coding[sizes.len() % 3]).into_bytes();
            for (i, n) in sizes.iter().enumerate() {
                bytes.extend(format!("{n:X}{}\r\n", if i % 2 == 1 { ";ext=1" } else { "" }).into_bytes());
                bytes.extend(body(*n));
                bytes.extend(b"\r\n");
            }
            bytes.extend(if sizes.len() % 2 == 1 { &b"0\r\nTrailer: yes\r\n\r\n"[..] } else { b"0\r\n\r\n" });
            bytes
        }
        Answer::ToHead(n) => format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n").into_bytes(),
        Answer::NoBody(status) => format!("HTTP/1.1 {status} X\r\nContent-Length: 10\r\n\r\n").into_bytes(),
        Answer::AfterInterim(n) => [b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), answer_bytes(&Answer::Length(*n))].concat(),
    }
}

fn any_answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        (0..3000usize).prop_map(Answer::Length),
        proptest::collection::vec(1..800usize, 0..5).prop_map(Answer::Chunked),
        (0..3000usize).prop_map(Answer::ToHead),
        prop_oneof![Just(204u16), Just(304)].prop_map(Answer::NoBody),
        (0..50usize).prop_map(Answer::AfterInterim),
    ]
}

thread_local!(static BENCH: Bench = Bench::new());

fn send(bench: &Bench, seq: u32, payload: &[u8]) {
    let segment = Tcp {
        from: at(VIP),
        to: at(CLIENT),
        seq,
        ack: Some(1018),
        flags: "P",
        options: vec![],
        payload: payload.to_vec(),
    };
    assert_eq!(bench.backend.test_egress(&segment.frame()).unwrap().0, NEXT);
}

const OPAQUE: u8 = 1;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However answers are cut into segments, and sent again: the framing knows where they end, not a byte earlier.
    #[test]
    fn the_framing_finds_the_end(answers in proptest::collection::vec(any_answer(), 1..6), cuts in proptest::collection::vec(1..1400usize, 1..40), again in any::<u8>()) {
        BENCH.with(|bench| {
            let mut bodiless = 0u32;
            for answer in &answers {
                bodiless = bodiless << 1 | u32::from(matches!(answer, Answer::ToHead(_)));
            }
            let start = 0xffff_ff00u32;
            let mut flow = serving(answers.len() as u32);
            flow.bodiless = bodiless;
            flow.framing.next = start;
            bench.hold(flow);
            let bytes: Vec<u8> = answers.iter().flat_map(answer_bytes).collect();
            let (mut at, mut cuts) = (0, cuts.iter().cycle());
            while at < bytes.len() {
                let end = (at + cuts.next().unwrap()).min(bytes.len());
                prop_assert!((bench.held().framing.answers as usize) < answers.len() || bench.held().framing.next != start.wrapping_add(bytes.len() as u32));
                send(bench, start.wrapping_add(at as u32), &bytes[at..end]);
                if again as usize % 3 == at % 3 {
                    send(bench, start.wrapping_add(at as u32), &bytes[at..end]);
                }
                at = end;
            }
            let flow = bench.held();
            prop_assert_eq!(flow.flags & OPAQUE, 0);
            prop_assert_eq!(flow.framing.answers as usize, answers.len());
            prop_assert_eq!(flow.framing.next, start.wrapping_add(bytes.len() as u32));
            prop_assert_eq!((flow.framing.phase, flow.framing.column), (0, 0));
            Ok(())
        })?;
    }

    /// What it does not understand is never taken for complete.
    #[test]
    fn the_framing_gives_up_for_good(noise in proptest::collection::vec(any::<u8>(), 1..300)) {
        BENCH.with(|bench| {
            bench.hold(serving(1));
            send(bench, 500, &noise);
            let flow = bench.held();
            prop_assert!(flow.framing.answers == 0);
            send(bench, 500 + noise.len() as u32, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            prop_assert!(bench.held().flags & OPAQUE != 0 || bench.held().framing.answers == 0);
            Ok(())
        })?;
    }
}

#[test]
fn what_has_no_known_end_is_opaque() {
    let bench = Bench::new();
    for head in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunkedx\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n",
    ] {
        bench.hold(serving(1));
        send(&bench, 500, head.as_bytes());
        assert_ne!(bench.held().flags & OPAQUE, 0, "{head}");
    }
    bench.hold(serving(1));
    send(&bench, 600, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_ne!(bench.held().flags & OPAQUE, 0, "bytes that were not seen");
    bench.hold(serving(0));
    send(
        &bench,
        500,
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
    );
    assert_ne!(
        bench.held().flags & OPAQUE,
        0,
        "an answer that nobody asked for"
    );
}

#[test]
fn both_fins_end_a_flow() {
    let mut bench = Bench::new();
    bench.hold(serving(1));
    bench.verdict(
        &Tcp {
            flags: "F",
            payload: vec![],
            ..request(1018)
        }
        .frame(),
    );
    let fin = Tcp {
        from: at(VIP),
        to: at(CLIENT),
        seq: 500,
        ack: Some(1019),
        flags: "F",
        options: vec![],
        payload: vec![],
    };
    bench.backend.test_egress(&fin.frame()).unwrap();
    assert_eq!(bench.held().state, served_state::ENDED);
    bench.hold(serving(1));
    bench
        .backend
        .test_egress(&Tcp { flags: "R", ..fin }.frame())
        .unwrap();
    assert_eq!(bench.held().state, served_state::ENDED);
}
