//! What an agent tells proxies that ask about a flow.

use super::flows::answer_to;
use super::*;
use baton_wire::{Ask, Fate, Known, Truth};
use std::net::{TcpListener, TcpStream};

fn ask(bench: &mut Bench, key: FlowKey, signed_by: [u8; 16]) -> Option<Fate> {
    let ask = Ask { key, nonce: 77 };
    let answer = answer_to(bench, &ask.encode(&Key::new(signed_by)))?;
    let truth = Truth::decode(&answer, &keys()).unwrap();
    assert_eq!((truth.key, truth.nonce), (key, 77));
    Some(truth.fate)
}

/// What `serving` says of the flow.
fn known(next: u32) -> Known {
    Known {
        timestamps: true,
        sack: false,
        scales: Some(Scales {
            client: 7,
            server: 10,
        }),
        pinned: true,
        mss: 1460,
        epoch: 100,
        seq: Seq(1000),
        ack: Seq(500),
        boundary: Seq(1018),
        requests: 3,
        bodiless: 5,
        next: Seq(next),
    }
}

fn served(state: u8) -> served_flow {
    served_flow {
        state,
        flags: PINNED,
        offers: 1 | 4,
        scales: 0x7a,
        mss: 1460,
        bodiless: 5,
        released_at: 900,
        ..serving(3)
    }
}

const PINNED: u8 = 1 << 5;
const FORCED: u8 = 1 << 6;

#[test]
fn without_a_socket_an_agent_tells_what_became_of_the_flow() {
    let mut bench = Bench::new();
    let mut fate = |flow: Option<served_flow>| {
        flow.iter().for_each(|flow| bench.hold(*flow));
        ask(&mut bench, key(), MESSAGE_KEY).unwrap()
    };
    assert_eq!(fate(None), Fate::Unknown);
    assert_eq!(
        fate(Some(served(served_state::FENCED))),
        Fate::Released(known(900))
    );
    let forced = served_flow {
        flags: PINNED | FORCED,
        ..served(served_state::FENCED)
    };
    let ended = Fate::Ended(Known {
        next: Seq(0),
        ..known(0)
    });
    assert_eq!(
        fate(Some(forced)),
        Fate::Ended(known(900)),
        "nobody knows what its client has of the answers"
    );
    assert_eq!(
        fate(Some(served(served_state::REFUSED))),
        Fate::Released(Known {
            boundary: Seq(1000),
            ..known(500)
        }),
        "it can be bound again where it was to be bound"
    );
    assert_eq!(
        fate(Some(served(served_state::ADOPTING))),
        Fate::Held(known(500))
    );
    assert_eq!(fate(Some(served(served_state::ENDED))), ended);
    assert_eq!(
        fate(Some(served(served_state::HELD))),
        ended,
        "its socket is gone"
    );
}

#[test]
fn who_asks_for_a_flow_that_is_held_hears_of_it_from_then_on() {
    let mut bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().unwrap();
    let flow = FlowKey::new(client.local_addr().unwrap(), listener.local_addr().unwrap());
    assert_eq!(
        ask(&mut bench, flow, MESSAGE_KEY),
        Some(Fate::Forgotten),
        "the agent was restarted"
    );
    let held = served(served_state::HELD);
    bench.backend.put_flow(&flow, &held).unwrap();
    let Some(Fate::Held(told)) = ask(&mut bench, flow, OLD_KEY) else {
        panic!()
    };
    let next = told.next;
    assert_eq!(told, known(next.0));
    std::io::Write::write_all(&mut &socket, &[0; 10]).unwrap();
    let Some(Fate::Held(told)) = ask(&mut bench, flow, MESSAGE_KEY) else {
        panic!()
    };
    assert_eq!(told.next, next + 10, "what the server has sent counts");
    let proxy = bench.backend.flow(&flow).unwrap().proxy;
    assert_eq!(proxy[3].to_ne_bytes(), [10, 77, 0, 11]);
}

#[test]
fn only_who_has_the_secret_is_answered() {
    let mut bench = Bench::new();
    bench.hold(served(served_state::FENCED));
    assert_eq!(ask(&mut bench, key(), *b"not a cluster ke"), None);
    let frame = udp_frame(PROXY, NODE, b"BT\x01\x09\0\0\0\0");
    assert_eq!(bench.verdict(&frame), dropped("malformed"));
}
