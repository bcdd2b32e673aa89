//! Section 4: servers on another network, which the proxy reaches through UDP.

use anyhow::ensure;

use super::downloads::get;
use super::rotation::rotate;
use super::uploads::{NO_EXPECT, put};
use super::{Ground, PROXY};
use crate::cluster::Lab;
use crate::report::{Counts, Recorder};

const FORWARDED: &str =
    "baton_packets_total{role=\"proxy\",verdict=\"forwarded\",reason=\"bound_encapsulated\"}";

pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    for family in ground.families() {
        let mut ground = ground.other(|options| {
            options.ipv6 = family.ipv6;
            options.routed = true;
        });
        let name = |what: &str| format!("4/encapsulated/{what}/{}", family.name);
        recorder.case(&name("get-1MB"), |counts| {
            through_udp(ground.lab()?, counts, |lab, counts| {
                get(lab, counts, 0, "1MB")
            })
        })?;
        recorder.case(&name("put-10MB"), |counts| {
            through_udp(ground.lab()?, counts, |lab, counts| {
                let answer = put(lab, counts, lab.vip(), 1, "10MB", &[NO_EXPECT])?;
                Ok(format!("{} has all bytes", answer.server()))
            })
        })?;
        let rotation = name("three-pools-one-connection");
        recorder.case(&rotation, |counts| {
            through_udp(ground.lab()?, counts, |lab, counts| {
                rotate(lab, counts, if short { 99 } else { 999 }, &rotation)
            })
        })?;
    }
    Ok(())
}

fn through_udp(
    lab: &mut Lab,
    counts: &mut Counts,
    transfer: impl FnOnce(&mut Lab, &mut Counts) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let before = lab.counter(PROXY, FORWARDED)?;
    let told = transfer(lab, counts)?;
    let packets = lab.counter(PROXY, FORWARDED)? - before;
    ensure!(packets > 0, "no packet was encapsulated");
    Ok(format!("{told}; {packets} packets encapsulated"))
}
