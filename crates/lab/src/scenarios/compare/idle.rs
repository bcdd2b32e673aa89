//! What an idle connection costs a proxy: memory before and after a hundred thousand clients have come and said nothing more.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::bail;

use super::memory::{Growth, Memory};
use super::systems::{PROXY, System, Systems};
use super::workload::{Ground, Workload};
use crate::client::Crowd;
use crate::report::Recorder;
use crate::scenarios::Setting;

/// What proxies that keep a socket for each client can hold within 20,000 file descriptors (HAProxy keeps two pipes for every four).
const CONNECTIONS_OF_SOCKETS: usize = 7_000;
const CONNECTIONS: usize = 100_000;
/// After this time nobody is still busy with what came last, and no server has closed an idle connection.
const SETTLE: Duration = Duration::from_secs(2);

/// Each system once, in a lab of its own: what is counted here does not vary, and programs do not give memory back.
///
/// # Errors
/// When interrupted.
pub(super) fn compare(
    recorder: &mut Recorder,
    setting: &Setting<'_>,
    wanted: &[Workload],
) -> anyhow::Result<()> {
    for system in System::ALL {
        // Nothing in between, nothing to measure.
        if system == System::Direct {
            continue;
        }
        let mut grown = None;
        recorder.case(&format!("7/idle_memory.{}", system.name()), |counts| {
            let mut systems = Systems::of(&[system], Ground::Crowd, setting);
            let connections = match (system, setting.short) {
                (System::Handoff, false) => CONNECTIONS,
                (System::Handoff, true) => CONNECTIONS / 10,
                _ => CONNECTIONS_OF_SOCKETS,
            };
            counts.transfers += connections as u64;
            let (unused, used) =
                measure(&mut systems, system, connections).inspect_err(|_| counts.failed += 1)?;
            grown = Some((unused, used));
            Ok(format!(
                "{connections} connections; before a request: {}; after one: {}",
                told(&unused),
                told(&used)
            ))
        })?;
        let Some((unused, used)) = grown else {
            continue;
        };
        for (workload, growth) in [
            (Workload::IdleMemory, used),
            (Workload::IdleMemoryUnused, unused),
        ] {
            if wanted.contains(&workload) {
                let values = [growth.total()];
                recorder.figure(workload.name(), system.name(), &values, workload.unit());
            }
        }
    }
    Ok(())
}

fn measure(
    systems: &mut Systems,
    system: System,
    connections: usize,
) -> anyhow::Result<(Growth, Growth)> {
    let place = systems.place(system)?;
    let SocketAddr::V4(to) = place.first() else {
        bail!("idle connections are made over IPv4 only");
    };
    let lab = place.lab;
    // With no body an answer is one head, and the file has to be there before memory is looked at.
    lab.content.file("0B")?;
    let number = connections as u64;
    let mut crowd = Crowd::gather(lab, PROXY, to, "/0B", connections)?;
    let before = Memory::of(lab, PROXY, number)?;
    eprintln!("       {connections} connections to {}", system.name());
    crowd.connect()?;
    crowd.be_silent(SETTLE)?;
    let connected = Memory::of(lab, PROXY, number)?;
    eprintln!("       {connections} requests to {}", system.name());
    crowd.ask()?;
    crowd.be_silent(SETTLE)?;
    let answered = Memory::of(lab, PROXY, number)?;
    Ok((
        connected.growth(&before, number),
        answered.growth(&before, number),
    ))
}

fn told(growth: &Growth) -> String {
    let Growth {
        programs,
        tables,
        sockets,
    } = growth;
    format!("{programs:.0} bytes in programs, {tables:.0} in BPF tables, {sockets:.0} in sockets")
}
