//! `baton relay`.

use std::net::SocketAddr;

use nix::sys::signal::Signal;

use crate::baton::{Baton, get};
use crate::origin::origin;

/// The address in a log line that ends with `address=...`.
fn listening(baton: &mut Baton) -> SocketAddr {
    let line = baton.log_line("listening");
    line.trim().rsplit('=').next().unwrap().parse().unwrap()
}

#[test]
fn servers_take_turns_and_sigterm_ends_it() {
    let to = format!("{},{}", origin("one"), origin("two"));
    let mut baton = Baton::start(&["relay", "--listen", "127.0.0.1:0", "--to", &to]);
    let address = listening(&mut baton);
    let answers = [(); 4].map(|()| get(address, "/").unwrap().1);
    assert_eq!(answers, ["one", "two", "one", "two"]);
    baton.signal(Signal::SIGTERM);
    let (status, log) = baton.end();
    assert!(status.success(), "{log}");
}

#[test]
fn an_address_that_is_taken_is_told() {
    let taken = origin("taken").to_string();
    let (status, log) = Baton::start(&["relay", "--listen", &taken, "--to", "127.0.0.1:1"]).end();
    assert!(!status.success());
    assert!(
        log.contains(&format!("cannot listen on {taken}: Address already in use")),
        "{log}"
    );
}
