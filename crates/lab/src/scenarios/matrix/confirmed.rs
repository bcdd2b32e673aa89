//! H6: how much of an upload has to carry a header, or to be looked at by the proxy's user space.

use anyhow::ensure;

use super::uploads::{NO_EXPECT, put};
use super::{Ground, PROXY};
use crate::cluster::Lab;
use crate::report::{Counts, Recorder};

const FORWARDED: &str =
    "baton_packets_total{role=\"proxy\",verdict=\"forwarded\",reason=\"bound\"}";
const PUNTED: &str = "baton_punts_total";
/// Of an upload, whatever its size: what a first window may bring before the flow is bound, and then nothing.
const MOST_PUNTED: u64 = 64;

pub(super) fn cases(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    short: bool,
) -> anyhow::Result<()> {
    recorder.case("H6/upload-confirmed", |counts| {
        confirmed(ground.lab()?, counts, if short { "10MB" } else { "100MB" })
    })
}

fn confirmed(lab: &mut Lab, counts: &mut Counts, file: &str) -> anyhow::Result<String> {
    let read = |lab: &Lab| -> anyhow::Result<(u64, u64)> {
        Ok((lab.counter(PROXY, FORWARDED)?, lab.counter(PROXY, PUNTED)?))
    };
    let before = read(lab)?;
    put(lab, counts, lab.vip(), 0, file, &[NO_EXPECT])?;
    let after = read(lab)?;
    let (forwarded, punted) = (after.0 - before.0, after.1 - before.1);
    ensure!(
        punted <= MOST_PUNTED && forwarded > 2 * punted,
        "{punted} packets of {} went to user space",
        forwarded + punted
    );
    Ok(format!(
        "{file}: {forwarded} packets forwarded, {punted} by way of user space"
    ))
}
