//! 6: nodes are drained, taken out and put in again while transfers of all kinds run.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};

use super::load::{MIXED, Progress, under_load};
use super::nodes::{Before, PATIENCE, Trace, healed, names, whole};
use crate::client::{Connection, Expected, Request};
use crate::cluster::{Lab, Reload, wait_until};
use crate::report::Counts;
use crate::scenarios::SERVERS;

/// Enough that each of a few servers is asked.
const REQUESTS: usize = 24;

/// Each proxy is drained in its turn, decides nothing then, and comes back.
pub(super) fn drain(lab: &mut Lab, counts: &mut Counts, seed: u64) -> anyhow::Result<String> {
    let proxies = names(&lab.topology.proxies());
    under_load(lab, counts, &MIXED, seed, |lab, progress| {
        for proxy in &proxies {
            lab.drain(proxy, true)?;
            decides_no_more(lab, proxy, progress).with_context(|| format!("{proxy} is drained"))?;
            lab.drain(proxy, false)?;
            whole(lab)?;
            progress.goes_on()?;
        }
        Ok(())
    })?;
    Ok(format!("{} proxies, one after the other", proxies.len()))
}

/// All that ends from some moment on is decided by others.
fn decides_no_more(lab: &Lab, proxy: &String, progress: &Progress) -> anyhow::Result<()> {
    wait_until("it decides nothing more", PATIENCE, || {
        let before = Before::now(lab, Trace::Decided)?;
        progress.goes_on()?;
        Ok(!before.moved(lab)?.contains(proxy))
    })
}

/// A drained back end gets no new requests; `all` has others.
pub(super) fn drain_server(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let drained = SERVERS[1];
    let mut kept = Connection::to_vip(lab)?;
    ask_all(counts, &mut kept)?;
    lab.drain(drained, true)?;
    wait_until(&format!("{drained} is asked no more"), PATIENCE, || {
        let mut servers = ask_all(counts, &mut Connection::to_vip(lab)?)?;
        servers.extend(ask_all(counts, &mut kept)?);
        Ok(!servers.contains(drained))
    })?;
    lab.drain(drained, false)?;
    wait_until(&format!("{drained} is asked again"), PATIENCE, || {
        Ok(ask_all(counts, &mut Connection::to_vip(lab)?)?.contains(drained))
    })?;
    Ok(format!("{drained} was not asked while it was drained"))
}

/// Who answers some requests for anybody.
fn ask_all(counts: &mut Counts, connection: &mut Connection) -> anyhow::Result<BTreeSet<String>> {
    let mut servers = BTreeSet::new();
    for _ in 0..REQUESTS {
        let answer = connection.ask(&Request::new("GET", "/whoami"));
        let server = answer
            .as_ref()
            .map_or(String::new(), |answer| answer.server().to_owned());
        let name = format!("{server}\n");
        let expected = Expected::status(200, &server).bytes(name.as_bytes());
        counts.check(answer, &expected)?;
        servers.insert(server);
    }
    Ok(servers)
}

/// A proxy and a back end leave the configuration of all nodes, and come into it again.
pub(super) fn reload(lab: &mut Lab, counts: &mut Counts, seed: u64) -> anyhow::Result<String> {
    let proxy = names(&lab.topology.proxies()).pop().context("no proxy")?;
    let full: Vec<(String, String)> = lab
        .nodes()
        .into_iter()
        .map(|node| Ok((node.name.clone(), lab.configuration(&node.name)?)))
        .collect::<anyhow::Result<_>>()?;
    under_load(lab, counts, &MIXED, seed, |lab, progress| {
        lab.drain(&proxy, true)?;
        decides_no_more(lab, &proxy, progress)?;
        lab.stop_node(&proxy)?;
        reload_all(lab, &full, |text| without_proxy(text, &proxy), &proxy)?;
        progress.goes_on()?;
        reload_all(lab, &full, str::to_owned, &proxy)?;
        lab.launch(&proxy)?;
        healed(lab)?;
        progress.goes_on()
    })?;
    Ok(format!("{proxy} was taken out and put in again"))
}

fn reload_all(
    lab: &Lab,
    files: &[(String, String)],
    change: impl Fn(&str) -> String,
    except: &str,
) -> anyhow::Result<()> {
    for (host, text) in files.iter().filter(|(host, _)| host != except) {
        lab.write_configuration(host, &change(text))?;
        let reload = lab.reload(host)?;
        ensure!(reload == Reload::Taken, "{host} did not take the file");
    }
    Ok(())
}

/// A configuration without a table `[[cluster.proxy]]`.
fn without_proxy(text: &str, proxy: &str) -> String {
    let parts: Vec<&str> = text.split("\n\n").collect();
    let named = format!("[[cluster.proxy]]\nname = \"{proxy}\"\n");
    let left: Vec<&str> = parts
        .into_iter()
        .filter(|part| !part.starts_with(&named))
        .collect();
    left.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_table_goes_and_no_other() {
        let table = |name: &str| format!("[[cluster.proxy]]\nname = \"{name}\"\naddress = \"x\"");
        let text = [
            "[node]\nname = \"proxy1\"".to_owned(),
            table("proxy1"),
            table("proxy2"),
            "[[vip]]\nname = \"web\"".to_owned(),
        ];
        let without = without_proxy(&text.join("\n\n"), "proxy1");
        assert_eq!(
            without,
            [&text[0], &text[2], &text[3]]
                .map(String::as_str)
                .join("\n\n")
        );
    }
}
