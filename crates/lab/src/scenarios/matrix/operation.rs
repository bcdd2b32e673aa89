//! Section 3: nodes are reloaded and stopped.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};

use super::edit::{with_routes, without_server};
use super::{Ground, PROXY};
use crate::client::{Answer, Connection, Expected, Request, curl, url};
use crate::cluster::{Lab, Mechanism, POOLS, Reload, wait_until};
use crate::command;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;
use crate::topology::INTERFACE;

/// Downloads that run while the configuration changes.
const DOWNLOADS: usize = 16;
const FILE: &str = "20MB";
/// So that each takes more than two seconds.
const RATE: &str = "8M";
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn cases(recorder: &mut Recorder, ground: &mut Ground<'_>) -> anyhow::Result<()> {
    recorder.case("3/reload-keeps-flows", |counts| {
        reload_keeps_flows(ground.lab()?, counts)
    })?;
    recorder.case("3/bad-reload-keeps-old", |counts| {
        bad_reload_keeps_old(ground.lab()?, counts)
    })?;
    recorder.case("3/stop-leaves-nothing", |counts| {
        stop_leaves_nothing(ground.lab()?, counts)
    })
}

/// Before, there are two servers; then `/a/`, which the first has, goes to a third one.
fn reload_keeps_flows(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let nodes = lab.nodes();
    let mut configurations = Vec::new();
    for node in &nodes {
        let full = lab.configuration(&node.name)?;
        lab.run_with(&node.name, &without_server(&full, SERVERS[2], POOLS[2]))?;
        let moved = "\n[[route]]\npath_prefix = \"/a/\"\npool = \"c\"\n\n[[route]]\npath_prefix = \"/b/\"\npool = \"b\"\n";
        configurations.push((&node.name, with_routes(&full, moved)));
    }
    let (large, small) = (lab.content.file(FILE)?, lab.content.file("1KB")?);
    let bound = lab.counter(PROXY, "baton_binds_total")?;
    let mut kept = Connection::to_vip(lab)?;
    let mut ask = |counts: &mut Counts, path: &str, server: &str| {
        let answer = kept.ask(&Request::new("GET", path));
        let checked = counts.check(answer, &Expected::file(server, &small));
        checked.with_context(|| format!("{path} on the connection that was kept"))
    };
    ask(counts, "/a/1KB", SERVERS[0])?;

    let downloads: Vec<(anyhow::Result<Answer>, &str)> = thread::scope(|scope| {
        let lab = &*lab;
        let running: Vec<_> = (0..DOWNLOADS)
            .map(|number| {
                let from = url(lab.vip(), &format!("/{}/{FILE}", POOLS[number % 2]));
                scope.spawn(move || curl(lab, &from, &["--limit-rate", RATE]))
            })
            .collect();
        let reloaded = (|| -> anyhow::Result<()> {
            wait_until("all downloads have begun", PATIENCE, || {
                Ok(lab.counter(PROXY, "baton_binds_total")? > bound + DOWNLOADS as u64)
            })?;
            for (host, text) in &configurations {
                lab.write_configuration(host, text)?;
                let reload = lab.reload(host)?;
                ensure!(
                    reload == Reload::Taken,
                    "{host} did not take the configuration"
                );
            }
            // A node says that it took a configuration a moment before the new routes hold.
            wait_until("the new route holds for new connections", PATIENCE, || {
                let answer = curl(lab, &url(lab.vip(), "/a/whoami"), &[])?;
                Ok(answer.server() == SERVERS[2])
            })?;
            ask(counts, "/a/1KB", SERVERS[2])?;
            ask(counts, "/b/1KB", SERVERS[1])?;
            ensure!(
                running.iter().all(|download| !download.is_finished()),
                "a download had ended before the reload: nothing is proved"
            );
            Ok(())
        })();
        let ended = running.into_iter().enumerate().map(|(number, download)| {
            let answer = download
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a thread broke")));
            (answer, SERVERS[number % 2])
        });
        let ended = ended.collect();
        reloaded.map(|()| ended)
    })?;
    for (answer, server) in downloads {
        counts.check(answer, &Expected::file(server, &large))?;
    }
    Ok(format!(
        "{DOWNLOADS} downloads went on; the new route holds, also on an old connection, to an added server"
    ))
}

fn bad_reload_keeps_old(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let good = lab.configuration(PROXY)?;
    lab.run_with(PROXY, &good)?;
    let small = lab.content.file("1KB")?;
    let mut connection = Connection::to_vip(lab)?;
    let mut ask_all = |lab: &Lab, counts: &mut Counts| -> anyhow::Result<()> {
        for (pool, server) in POOLS.iter().zip(SERVERS) {
            let path = format!("/{pool}/1KB");
            let expected = Expected::file(server, &small);
            counts.check(connection.ask(&Request::new("GET", &path)), &expected)?;
            counts.check(curl(lab, &url(lab.vip(), &path), &[]), &expected)?;
        }
        Ok(())
    };
    ask_all(lab, counts)?;
    let before = lab.kept_configuration(PROXY)?;
    // Its other routes would do harm; two of its lines are wrong.
    let moved = "\n[[route]]\npath_prefix = \"/\"\npool = \"c\"\n\n[[route]]\npath_prefiks = \"/\"\npool = \"none\"\n";
    lab.write_configuration(PROXY, &with_routes(&good, moved))?;
    let reload = lab.reload(PROXY)?;
    ensure!(
        reload == Reload::Kept,
        "the node took a broken configuration"
    );
    ask_all(lab, counts)?;
    let told = lab.kept_configuration(PROXY)? - before;
    ensure!(
        told == 1,
        "the log tells of it {told} times instead of once"
    );
    lab.write_configuration(PROXY, &good)?;
    let reload = lab.reload(PROXY)?;
    ensure!(
        reload == Reload::Taken,
        "the node did not take the file once it was mended"
    );
    ask_all(lab, counts)?;
    Ok("old routes hold, on old and new connections; logged once".into())
}

/// Afterwards the hosts are as hosts are that never ran a node; then they can be nodes again.
fn stop_leaves_nothing(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let nodes = lab.nodes();
    let pristine = settings(lab, "client")?;
    for node in &nodes {
        let text = lab.configuration(&node.name)?;
        lab.run_with(&node.name, &text)?;
        ensure!(has_vip(lab, &node.name)?, "{} never had the VIP", node.name);
    }
    if lab.options.mechanism == Mechanism::Handoff {
        ensure!(
            settings(lab, SERVERS[0])? != pristine,
            "a running agent changes no setting: nothing is proved"
        );
    }
    for node in nodes.iter().rev() {
        lab.stop_node(&node.name)?;
    }
    for node in &nodes {
        let host = node.name.as_str();
        ensure!(!has_vip(lab, host)?, "{host} still has the VIP");
        let left: Vec<String> = settings(lab, host)?
            .into_iter()
            .filter(|setting| !pristine.contains(setting))
            .collect();
        ensure!(left.is_empty(), "{host} has kept settings: {left:?}");
        own_listener_is_heard(lab, host)
            .with_context(|| format!("{host} still takes the VIP's packets"))?;
    }
    for node in &nodes {
        lab.launch(&node.name)?;
        lab.ready(&node.name)?;
    }
    let small = lab.content.file("1KB")?;
    for (pool, server) in POOLS.iter().zip(SERVERS) {
        let answer = curl(lab, &url(lab.vip(), &format!("/{pool}/1KB")), &[]);
        counts.check(answer, &Expected::file(server, &small))?;
    }
    Ok(format!(
        "{} nodes stopped with status 0: no VIP, no setting, no program left; and start again",
        nodes.len()
    ))
}

fn has_vip(lab: &Lab, host: &str) -> anyhow::Result<bool> {
    let addresses = lab.netns(host).ip("-o address show")?;
    Ok(addresses.contains(&format!(" {}/", lab.vip().ip())))
}

/// The kernel settings of a host that a node could have to do with.
fn settings(lab: &Lab, host: &str) -> anyhow::Result<Vec<String>> {
    let mut sysctl = lab.netns(host).command("sysctl");
    let pattern = r"^net\.(ipv[46]\.(conf|neigh|tcp|ip_|udp)|core\.)";
    // What it may not read it says on standard error.
    let output = command::output(sysctl.args(["-a", "-r", pattern]))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter(|line| !line.contains("ip_local_port_range"))
        .map(str::to_owned)
        .collect())
}

/// Whether the host's own kernel answers when the VIP is an address like any other, from the network and from the host itself. A program
/// of a node that is still attached would answer in its place, or drop what comes.
fn own_listener_is_heard(lab: &Lab, host: &str) -> anyhow::Result<()> {
    let (netns, client, vip) = (lab.netns(host), lab.netns("client"), lab.vip());
    let place = format!(
        "{}/{} dev {INTERFACE}",
        vip.ip(),
        lab.options.family().host_prefix()
    );
    let family = if vip.is_ipv6() { "-6" } else { "-4" };
    let link = netns.ip(&format!("-o link show {INTERFACE}"))?;
    let mac = link
        .split("link/ether ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .context("no link-layer address")?;
    let entry = format!("{} dev {INTERFACE}", vip.ip());
    netns.ip(&format!("address add {place}"))?;
    client.ip(&format!("{family} neighbour replace {entry} lladdr {mac}"))?;
    let heard = (|| {
        // A port below 1024 that nothing else uses there.
        let listener = netns.inside(|| Ok(TcpListener::bind(vip)?))?;
        listener.set_nonblocking(true)?;
        for (from, address) in [(&client, client_address(lab)), (&netns, vip.ip())] {
            let connect = || Ok(TcpStream::connect_timeout(&vip, PATIENCE)?);
            let stream = from.inside(connect).context("a connection to the VIP")?;
            let local = stream.local_addr()?;
            ensure!(local.ip() == address, "connected from {local}");
            let mut peer: Option<SocketAddr> = None;
            wait_until("the listener has the connection", PATIENCE, || {
                peer = listener.accept().ok().map(|(_, peer)| peer);
                Ok(peer.is_some())
            })?;
            ensure!(
                peer == Some(local),
                "the listener has {peer:?} instead of {local}"
            );
        }
        Ok(())
    })();
    client.ip(&format!("{family} neighbour delete {entry}"))?;
    netns.ip(&format!("address delete {place}"))?;
    heard
}

fn client_address(lab: &Lab) -> IpAddr {
    lab.topology.client().address(lab.options.family())
}
