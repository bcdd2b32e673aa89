//! How well a cable with faults keeps what it promises. Needs root: `cargo test -p baton-lab -- --ignored`.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use super::{Faults, forward};
use crate::link;
use crate::netns::Netns;
use crate::topology::{Host, Topology};

/// The echo ends after this time, whatever happens.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client behind a cable with faults, a proxy behind one without; gone when dropped.
struct Cables {
    switch: Netns,
    ends: [(Netns, Host); 2],
}

impl Cables {
    fn make(test: &str, faults: Faults) -> Self {
        let netns =
            |host: &str| Netns::new(format!("baton-test-{}-{test}-{host}", std::process::id()));
        let topology = Topology {
            balancers: 0,
            proxies: 1,
            backends: 1,
        };
        let ends =
            [topology.client(), topology.proxies().remove(0)].map(|host| (netns(&host.name), host));
        let cables = Self {
            switch: netns("switch"),
            ends,
        };
        cables.switch.create().unwrap();
        link::make_switch(&cables.switch).unwrap();
        for (number, (netns, host)) in cables.ends.iter().enumerate() {
            netns.create().unwrap();
            if let Some(gap) = link::plug(&cables.switch, netns, host, number == 0).unwrap() {
                let (ready, begun) = std::sync::mpsc::channel();
                let switch = cables.switch.clone();
                thread::spawn(move || {
                    enter(&switch);
                    forward(&gap.host_side, &gap.bridge_side, faults, 1, move || {
                        ready.send(()).unwrap()
                    })
                });
                begun.recv().unwrap();
            }
        }
        cables
    }

    /// Sends `count` numbered datagrams through the cable to an echo and back, one each half millisecond. For each number the times
    /// after which it came back; also how many came back after a later one.
    fn round_trips(&self, count: u32) -> (BTreeMap<u32, Vec<Duration>>, usize) {
        let [(client, _), (proxy, host)] = &self.ends;
        let echo = in_namespace(proxy, || UdpSocket::bind("0.0.0.0:7").unwrap());
        let socket = in_namespace(client, || UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.connect((host.v4(), 7)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        echo.set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let (done, begun) = (AtomicBool::new(false), Instant::now());
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut datagram = [0; 4];
                while !done.load(Ordering::Relaxed) && begun.elapsed() < PATIENCE {
                    if let Ok((_, from)) = echo.recv_from(&mut datagram) {
                        echo.send_to(&datagram, from).unwrap();
                    }
                }
            });
            // Neighbours are found before anything is measured.
            let echoed = |_| {
                socket.send(&u32::MAX.to_be_bytes()).is_ok() && socket.recv(&mut [0; 4]).is_ok()
            };
            assert!((0..10).any(echoed), "nothing comes back");
            let (start, socket) = (Instant::now(), &socket);
            scope.spawn(move || {
                for number in 0..count {
                    thread::sleep(
                        (sent_at(start, number)).saturating_duration_since(Instant::now()),
                    );
                    socket.send(&number.to_be_bytes()).unwrap();
                }
            });
            let (mut times, mut newest, mut overtaken) = (BTreeMap::new(), 0, 0);
            let mut datagram = [0; 4];
            while socket.recv(&mut datagram).is_ok() {
                let number = u32::from_be_bytes(datagram);
                if number < count {
                    let time = Instant::now().saturating_duration_since(sent_at(start, number));
                    times.entry(number).or_insert_with(Vec::new).push(time);
                    overtaken += usize::from(number < newest);
                    newest = newest.max(number);
                }
            }
            done.store(true, Ordering::Relaxed);
            (times, overtaken)
        })
    }
}

impl Drop for Cables {
    fn drop(&mut self) {
        for netns in [&self.switch, &self.ends[0].0, &self.ends[1].0] {
            let _ = netns.delete();
        }
    }
}

fn sent_at(start: Instant, number: u32) -> Instant {
    start + Duration::from_micros(500) * number
}

/// For this thread.
fn enter(netns: &Netns) {
    setns(File::open(netns.path()).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
}

fn in_namespace<T: Send>(netns: &Netns, make: impl FnOnce() -> T + Send) -> T {
    let inside = || {
        enter(netns);
        make()
    };
    thread::scope(|scope| scope.spawn(inside).join().unwrap())
}

#[test]
#[ignore = "needs root"]
fn delay_is_exact() {
    let delay = Duration::from_millis(25);
    let cables = Cables::make(
        "delay",
        Faults {
            delay,
            ..Faults::default()
        },
    );
    let (times, _) = cables.round_trips(400);
    let mut times: Vec<Duration> = times.into_values().flatten().collect();
    times.sort();
    assert_eq!(times.len(), 400, "nothing is lost");
    let (least, median) = (times[0], times[200]);
    assert!(least >= 2 * delay, "{least:?}");
    assert!(median < 2 * delay + Duration::from_millis(1), "{median:?}");
}

#[test]
#[ignore = "needs root"]
fn loss_is_as_asked_for_in_both_directions() {
    let cables = Cables::make(
        "loss",
        Faults {
            loss: 0.1,
            ..Faults::default()
        },
    );
    let (times, _) = cables.round_trips(2000);
    let share = times.len() as f64 / 2000.0;
    assert!(
        (0.78..0.84).contains(&share),
        "{share} came back, 0.81 should"
    );
}

#[test]
#[ignore = "needs root"]
fn duplicates_and_overtaken_ones_are_as_asked_for() {
    let cables = Cables::make(
        "mess",
        Faults {
            reorder: 0.05,
            duplicate: 0.05,
            ..Faults::default()
        },
    );
    let (times, overtaken) = cables.round_trips(2000);
    assert_eq!(times.len(), 2000, "nothing is lost");
    let copies = times.values().map(Vec::len).sum::<usize>() as f64 / 2000.0;
    assert!(
        (1.07..1.14).contains(&copies),
        "{copies} came back for each, 1.1025 should"
    );
    // Held back for 1 ms, with one following each half millisecond.
    let overtaken = overtaken as f64 / 2000.0;
    assert!(
        (0.05..0.2).contains(&overtaken),
        "{overtaken} were overtaken"
    );
}
