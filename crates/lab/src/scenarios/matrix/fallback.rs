//! Section 3: what the proxy cannot hand off is answered by its own relay, with and without privileges.

use std::thread;
use std::time::Duration;

use anyhow::ensure;

use super::edit::without_default;
use super::{Ground, PROXY};
use crate::client::{Connection, Expected, NO_SERVER, Request, curl, url};
use crate::cluster::Lab;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

const TO_RELAY: &str = "baton_decisions_total{event=\"to_relay\"}";

pub(super) fn cases(recorder: &mut Recorder, ground: &Ground<'_>) -> anyhow::Result<()> {
    for family in ground.families() {
        let mut ground = ground.other(|options| options.ipv6 = family.ipv6);
        for (name, ask) in [
            ("byte-by-byte", byte_by_byte as Ask),
            ("garbage-400", garbage),
            ("head-of-70KB-431", long_head),
            ("no-route-404", no_route),
        ] {
            let name = format!("3/relay-fallback/{name}/{}", family.name);
            recorder.case(&name, |counts| {
                let lab = ground.lab()?;
                let impatient = "\n[proxy]\nhead_wait_ms = 20\n";
                let text = without_default(&lab.configuration(PROXY)?) + impatient;
                lab.run_with(PROXY, &text)?;
                let before = lab.counter(PROXY, TO_RELAY)?;
                let told = ask(lab, counts)?;
                let relayed = lab.counter(PROXY, TO_RELAY)? - before;
                ensure!(
                    relayed == 1,
                    "{relayed} connections went to the proxy's relay instead of 1"
                );
                Ok(told)
            })?;
        }
    }
    Ok(())
}

type Ask = fn(&mut Lab, &mut Counts) -> anyhow::Result<String>;

/// Slower than a proxy waits for a head.
fn byte_by_byte(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let file = lab.content.file("1MB")?;
    let mut connection = Connection::to_vip(lab)?;
    for byte in b"GET /a/1MB HTTP/1.1\r\nHost: slow.example\r\n\r\n" {
        connection.write(&[*byte])?;
        thread::sleep(Duration::from_millis(3));
    }
    let answer = connection.answer("GET");
    counts.check(answer, &Expected::file(SERVERS[0], &file))?;
    // The connection stays where it is, and is as good as any.
    let next = connection.ask(&Request::new("GET", "/b/1MB"));
    counts.check(next, &Expected::file(SERVERS[1], &file))?;
    Ok("two requests, two servers".into())
}

fn garbage(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    // The beginning of a TLS handshake.
    refused(
        lab,
        counts,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        400,
    )
}

fn long_head(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let head = format!(
        "GET /a/1MB HTTP/1.1\r\nHost: long.example\r\nX-Long: {}\r\n\r\n",
        "x".repeat(70_000)
    );
    refused(lab, counts, head.as_bytes(), 431)
}

fn no_route(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    refused(
        lab,
        counts,
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
        404,
    )
}

fn refused(
    lab: &mut Lab,
    counts: &mut Counts,
    bytes: &[u8],
    status: u16,
) -> anyhow::Result<String> {
    let mut connection = Connection::to_vip(lab)?;
    // A proxy that has seen enough may answer before all is written.
    let _ = connection.write(bytes);
    counts.check(
        connection.answer("GET"),
        &Expected::status(status, NO_SERVER),
    )?;
    Ok(format!("{status} from the proxy itself"))
}

/// `baton relay` as an ordinary user without any capability.
pub(super) fn unprivileged(recorder: &mut Recorder, ground: &mut Ground<'_>) -> anyhow::Result<()> {
    recorder.case("3/unprivileged-relay", |counts| {
        let lab = ground.lab()?;
        let listen = start_unprivileged(lab)?;
        let file = lab.content.file("64MiB")?;
        let answer = curl(lab, &url(listen, "/a/64MiB"), &[]);
        counts.check(answer, &Expected::file(SERVERS[0], &file))?;
        Ok("64 MiB by a relay of user nobody, without capabilities".into())
    })
}

/// The shell opens the program as root: the directories above may be closed to others.
const UNPRIVILEGED: &str = "exec setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs \
    /proc/self/fd/3 relay --listen \"$1\" --to \"$2\" 3< \"$0\"";
const PORT: u16 = 8083;

fn start_unprivileged(lab: &mut Lab) -> anyhow::Result<std::net::SocketAddr> {
    let proxies = lab.topology.proxies();
    let address = proxies[0].address(lab.options.family());
    let listen = std::net::SocketAddr::new(address, PORT);
    let mut relay = lab.netns(PROXY).command("sh");
    relay
        .args(["-c", UNPRIVILEGED])
        .arg(lab.baton())
        .arg(listen.to_string())
        .arg(lab.direct(SERVERS[0])?.to_string());
    lab.start(PROXY, "unprivileged.log", &mut relay)?;
    lab.serves(
        PROXY,
        &url(listen, "/whoami"),
        SERVERS[0],
        "unprivileged.log",
    )?;
    let status = lab.process_status(PROXY, "unprivileged")?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    ensure!(
        field("CapEff:").is_some_and(|value| value.trim() == "0000000000000000")
            && field("Uid:").is_some_and(|value| value.trim().starts_with("65534\t65534")),
        "the relay has privileges: {status}"
    );
    Ok(listen)
}
