//! Section 3: a path that is narrower than the client's TCP says. A router in between sends its ICMP errors to the VIP, and they must reach
//! the server that holds the flow.
//!
//! ```text
//! far (10.99.0.2, fd99::2) === MTU 1300 === router (10.77.0.50, fd77::50) --- switch --- proxy, back ends
//! ```

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{Ground, PROXY};
use crate::client::{Answer, Expected};
use crate::cluster::{Lab, POOLS, digest};
use crate::link;
use crate::netns::Netns;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

const MTU: u32 = 1300;
/// A retransmission after the kernel's first time-out is a fifth of a second; a black hole is for ever.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    let file = if short { "10MB" } else { "100MB" };
    for (name, ipv6, routed) in [
        ("3/fragmentation-needed", false, false),
        ("3/fragmentation-needed/encapsulated", false, true),
        ("3/packet-too-big", true, false),
        ("3/packet-too-big/encapsulated", true, true),
    ] {
        let mut ground = ground.other(|options| {
            options.ipv6 = ipv6;
            options.routed = routed;
        });
        recorder.case(name, |counts| {
            let lab = ground.lab()?;
            let far = behind_a_router(lab)?;
            downloads(lab, counts, &far, file)
        })?;
    }
    Ok(())
}

fn downloads(
    lab: &mut Lab,
    counts: &mut Counts,
    far: &Netns,
    name: &str,
) -> anyhow::Result<String> {
    const ERRORS: &str =
        "baton_packets_total{role=\"proxy\",verdict=\"forwarded\",reason=\"icmp_error\"}";
    let file = lab.content.file(name)?;
    let before = lab.counter(PROXY, ERRORS)?;
    let vip = lab.vip();
    let mut longest = Duration::ZERO;
    for (pool, server) in POOLS.iter().zip(SERVERS) {
        let stream = far.inside(|| Ok(TcpStream::connect_timeout(&vip, LONGEST_PAUSE)?))?;
        let answer = download(stream, &format!("/{pool}/{name}"), &mut longest);
        counts.check(answer, &Expected::file(server, &file))?;
    }
    let errors = lab.counter(PROXY, ERRORS)? - before;
    ensure!(errors > 0, "no router complained: the path was not narrow");
    Ok(format!(
        "{name} from each of three servers, {errors} ICMP errors forwarded, longest pause {longest:.1?}"
    ))
}

/// One answer to the end of the connection; nothing may be silent for longer than [`LONGEST_PAUSE`].
fn download(mut stream: TcpStream, path: &str, longest: &mut Duration) -> anyhow::Result<Answer> {
    stream.set_read_timeout(Some(LONGEST_PAUSE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let (mut all, mut block) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let begun = Instant::now();
        let read = stream
            .read(&mut block)
            .with_context(|| format!("stalled after {} bytes", all.len()))?;
        *longest = begun.elapsed().max(*longest);
        if read == 0 {
            break;
        }
        all.extend_from_slice(&block[..read]);
    }
    let end = all.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, mut body) = all.split_at(end.context("no head")? + 4);
    let mut answer = Answer::default();
    answer.take_head(head)?;
    (answer.bytes, answer.sha256) = digest(&mut body)?;
    Ok(answer)
}

/// Makes the router and the client behind it, which offers a larger MSS than its path can carry.
fn behind_a_router(lab: &mut Lab) -> anyhow::Result<Netns> {
    let (router, far) = (lab.add_namespace("router")?, lab.add_namespace("far")?);
    for netns in [&router, &far] {
        // A router asks for its neighbours by its link-local address, and only once that is known to be its own: two seconds.
        netns.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
    }
    let switch = lab.netns("switch");
    switch.ip(&format!(
        "link add v-router type veth peer name eth0 netns {}",
        router.name()
    ))?;
    switch.ip("link set v-router master br0 up")?;
    router.ip(&format!(
        "link add eth1 mtu {MTU} type veth peer name eth0 mtu {MTU} netns {}",
        far.name()
    ))?;
    for (netns, interface, v4, v6) in [
        (&router, "eth0", "10.77.0.50", "fd77::50"),
        (&router, "eth1", "10.99.0.1", "fd99::1"),
        (&far, "eth0", "10.99.0.2", "fd99::2"),
    ] {
        netns.ip(&format!("address add {v4}/24 dev {interface}"))?;
        netns.ip(&format!("address add {v6}/64 dev {interface} nodad"))?;
        netns.ip(&format!("link set {interface} up"))?;
    }
    router.sysctl("net.ipv4.ip_forward", "1")?;
    router.sysctl("net.ipv6.conf.all.forwarding", "1")?;
    far.ip("route add default via 10.99.0.1 advmss 1460")?;
    far.ip("-6 route add default via fd99::1 advmss 1440")?;
    for host in lab.topology.servers() {
        let netns = lab.netns(&host.name);
        netns.ip("route add 10.99.0.0/24 via 10.77.0.50")?;
        netns.ip("-6 route add fd99::/64 via fd77::50")?;
    }
    // Each frame that is too large is one packet, as on a real link.
    link::no_offload(&router, "eth0")?;
    Ok(far)
}
