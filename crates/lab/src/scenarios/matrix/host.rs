//! H18, H19: what a back end's host may have that keeps connections from its web server. The agent says so, and what to do.

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Ground, PROXY};
use crate::client::{Connection, Expected, Request, curl, url};
use crate::cluster::requirements::require;
use crate::cluster::{Lab, wait_until};
use crate::command;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;
use crate::topology::HTTP_PORT;

const HOST: &str = SERVERS[0];
/// The agent tests three times before it says that something is wrong, and every five seconds while it is.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where a program listens with MPTCP.
const OTHER_PORT: u16 = 8081;
const LOOSE: &str = "net.netfilter.nf_conntrack_tcp_loose";
const NOT_LOOSE: &str = "net.netfilter.nf_conntrack_tcp_loose is 0";

pub(super) fn cases(recorder: &mut Recorder, ground: &mut Ground<'_>) -> anyhow::Result<()> {
    recorder.case("H18/mptcp-listener", |counts| {
        mptcp_listener(ground.lab()?, counts)
    })?;
    for (name, loose, chain) in [
        (
            "drop-new-not-syn",
            true,
            "policy accept; ct state new tcp flags & (fin|syn|rst|ack) != syn drop;",
        ),
        (
            "tcp-loose-0",
            false,
            "policy accept; ct state invalid drop;",
        ),
        (
            "listener-port-only",
            true,
            "policy drop; iif lo accept; ct state established,related accept; icmp type echo-request accept; \
             ip6 nexthdr icmpv6 accept; tcp dport 8080 accept;",
        ),
    ] {
        recorder.case(&format!("H19/{name}"), |counts| {
            let lab = ground.lab()?;
            let outcome = firewall(lab, counts, loose, chain);
            nft(lab, "flush ruleset")?;
            lab.netns(HOST).sysctl(LOOSE, "1")?;
            told_of(lab, "blocked", 0)?;
            outcome
        })?;
    }
    Ok(())
}

/// The agent is started behind the firewall and says so; the documented rules mend it while it runs.
fn firewall(
    lab: &mut Lab,
    counts: &mut Counts,
    loose: bool,
    chain: &str,
) -> anyhow::Result<String> {
    let text = lab.configuration(HOST)?;
    lab.run_with(HOST, &text)?;
    told_of(lab, "blocked", 0)?;
    lab.netns(HOST)
        .sysctl(LOOSE, if loose { "1" } else { "0" })?;
    nft(
        lab,
        &format!(
            "table inet filter {{\n chain input {{ type filter hook input priority filter; {chain} }}\n}}"
        ),
    )?;
    let warned = lab.said(HOST, "docs/firewall.md")?;
    let named = lab.said(HOST, NOT_LOOSE)?;
    lab.stop_node(HOST)?;
    lab.launch(HOST)?;
    lab.ready(HOST)?;
    told_of(lab, "blocked", 1)?;
    ensure!(
        lab.said(HOST, "docs/firewall.md")? == warned + 1,
        "the log does not tell of it once"
    );
    ensure!(
        lab.said(HOST, NOT_LOOSE)? - named == usize::from(!loose),
        "the log does not tell of {LOOSE}, or does without reason"
    );

    // docs/firewall.md
    let (vip, port) = (lab.vip().ip(), lab.vip().port());
    let ip = if vip.is_ipv4() { "ip" } else { "ip6" };
    nft(
        lab,
        &format!(
            "table inet baton {{\n chain in {{ type filter hook prerouting priority raw; {ip} daddr {vip} tcp dport {port} notrack; }}\n \
             chain out {{ type filter hook output priority raw; {ip} saddr {vip} tcp sport {port} notrack; }}\n}}\n\
             insert rule inet filter input {ip} daddr {vip} tcp dport {port} accept\n\
             insert rule inet filter input udp dport 6950 accept"
        ),
    )?;
    told_of(lab, "blocked", 0)?;
    let (small, large) = (lab.content.file("1KB")?, lab.content.file("1MB")?);
    let mut connection = Connection::to_vip(lab)?;
    for (path, server, file) in [
        ("/a/1KB", HOST, &small),
        ("/b/1KB", SERVERS[1], &small),
        ("/a/1MB", HOST, &large),
    ] {
        let answer = connection.ask(&Request::new("GET", path));
        counts.check(answer, &Expected::file(server, file))?;
    }
    Ok("the agent says so at start; with the documented rules flows come and go".into())
}

/// A web server that listens as Go's do since 1.24.
fn mptcp_listener(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let good = lab.configuration(HOST)?;
    lab.run_with(HOST, &good)?;
    told_of(lab, "mptcp_listener", 0)?;
    let at = listener_of(lab, OTHER_PORT);
    let listener = match lab.netns(HOST).inside(|| listen_with_mptcp(at)) {
        Err(error) if lacks_mptcp(&error) => {
            return Ok("this kernel has no MPTCP, so no program can listen with it".into());
        }
        listener => listener?,
    };
    let own = format!("listen = \"{}\"", listener_of(lab, HTTP_PORT));
    let other = format!("listen = \"{at}\"");
    ensure!(good.contains(&own), "the lab's configuration lacks {own}");
    lab.write_configuration(HOST, &good.replace(&own, &other))?;
    let warned = lab.said(HOST, "GODEBUG=multipathtcp=0")?;
    lab.reload(HOST)?;
    let outcome = (|| {
        wait_until("the agent names the MPTCP listener", PATIENCE, || {
            Ok(lab.metric(HOST, &series(lab, at, "mptcp_listener"))? == Some(1))
        })?;
        ensure!(
            lab.said(HOST, "GODEBUG=multipathtcp=0")? == warned + 1,
            "the log does not name the remedy once"
        );
        // The relay reaches the other listener, nginx; a server that others of its pool can stand in for is passed over.
        let small = lab.content.file("1KB")?;
        let answer = curl(lab, &url(lab.vip(), "/a/1KB"), &["-m", "15"]);
        let relayed = counts.check(answer, &Expected::file(HOST, &small))?;
        let answer = curl(lab, &url(lab.vip(), "/1KB"), &["-m", "15"])?;
        ensure!(answer.status == 200, "{} instead of 200", answer.status);

        // No other way to the only server of a pool.
        let way = format!("http = \"{}\"\n", lab.direct(HOST)?);
        let text = lab.configuration(PROXY)?;
        ensure!(text.contains(&way), "the lab's configuration lacks {way}");
        lab.write_configuration(PROXY, &text.replace(&way, ""))?;
        lab.reload(PROXY)?;
        let answer = curl(lab, &url(lab.vip(), "/a/1KB"), &["-m", "15"]);
        lab.write_configuration(PROXY, &text)?;
        lab.reload(PROXY)?;
        let status = answer?.status;
        ensure!((500..600).contains(&status), "{status} instead of an error");
        Ok((relayed.seconds, status))
    })();
    drop(listener);
    lab.write_configuration(HOST, &good)?;
    lab.reload(HOST)?;
    told_of(lab, "mptcp_listener", 0)?;
    let (seconds, status) = outcome?;
    Ok(format!(
        "named, with the remedy; served by the relay after {seconds:.1} s, or {status} if that has no way to it"
    ))
}

fn listen_with_mptcp(at: SocketAddr) -> anyhow::Result<Socket> {
    const IPPROTO_MPTCP: i32 = 262;
    let socket = Socket::new(
        Domain::for_address(at),
        Type::STREAM,
        Some(Protocol::from(IPPROTO_MPTCP)),
    )?;
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    socket.listen(128)?;
    Ok(socket)
}

fn lacks_mptcp(error: &anyhow::Error) -> bool {
    const EPROTONOSUPPORT: i32 = 93;
    error.downcast_ref::<Error>().is_some_and(|error| {
        error.raw_os_error() == Some(EPROTONOSUPPORT) || error.kind() == ErrorKind::Unsupported
    })
}

/// Waits until the agent tells of the problem (1), or of none (0), and the proxy has heard of it.
fn told_of(lab: &Lab, problem: &str, value: u64) -> anyhow::Result<()> {
    let series = series(lab, listener_of(lab, HTTP_PORT), problem);
    wait_until(
        &format!("{HOST} says {value} of {problem}"),
        PATIENCE,
        || Ok(lab.metric(HOST, &series)? == Some(value)),
    )?;
    wait_until(&format!("{PROXY} has heard of it"), PATIENCE, || {
        Ok(lab.metric(PROXY, "baton_servers{state=\"out\"}")? == Some(value))
    })
}

fn series(lab: &Lab, listen: SocketAddr, problem: &str) -> String {
    let vip = lab.vip();
    format!("baton_service_problem{{vip=\"{vip}\",listen=\"{listen}\",problem=\"{problem}\"}}")
}

/// On the back end's loopback.
fn listener_of(lab: &Lab, port: u16) -> SocketAddr {
    let loopback: IpAddr = if lab.options.ipv6 {
        Ipv6Addr::LOCALHOST.into()
    } else {
        Ipv4Addr::LOCALHOST.into()
    };
    SocketAddr::new(loopback, port)
}

fn nft(lab: &Lab, rules: &str) -> anyhow::Result<()> {
    require("nft", "nftables")?;
    let mut nft = lab.netns(HOST).command("nft");
    let ((), output) = command::piped(nft.args(["-f", "-"]), rules.as_bytes(), |_| Ok(()))?;
    ensure!(
        output.status.success(),
        "nft refused {rules:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
