//! 5.5: on a long path, a download and an upload of 20 MB beside the direct ones.

use std::net::SocketAddr;

use super::Place;
use super::uploads::{NO_EXPECT, put};
use crate::client::{Answer, Expected, curl, url};
use crate::cluster::{Lab, Mechanism};
use crate::report::{Counts, Recorder};
use crate::scenarios::statistics::{listed, median};
use crate::scenarios::{SERVERS, site};

const FILE: &str = "20MB";

pub(super) fn cases(
    recorder: &mut Recorder,
    place: &mut Place<'_, '_>,
    mechanism: Mechanism,
    short: bool,
) -> anyhow::Result<()> {
    let runs = if short { 3 } else { 5 };
    for (direction, transfer) in [("download", download as Transfer), ("upload", upload)] {
        let mut workload = format!("{direction}-{}", place.path.label);
        if place.tcp != site::ALL_ON {
            workload = format!("{workload}-{}", place.tcp.name);
        }
        let (mut direct, mut through) = (Vec::new(), Vec::new());
        recorder.case(&format!("5.5/{workload}"), |counts| {
            let lab = place.lab()?;
            for _ in 0..runs {
                direct.push(transfer(lab, counts, lab.direct(SERVERS[0])?)?.seconds);
                through.push(transfer(lab, counts, lab.vip())?.seconds);
            }
            let ratio = median(&through).unwrap_or(f64::NAN) / median(&direct).unwrap_or(f64::NAN);
            Ok(format!(
                "{ratio:.2} times the direct one; {} s, direct {} s",
                listed(&through),
                listed(&direct)
            ))
        })?;
        for (system, seconds) in [("direct", &direct), (mechanism.name(), &through)] {
            recorder.figure(&workload, system, seconds, "s");
        }
        recorder.ratio(&workload, mechanism.name(), "direct");
    }
    Ok(())
}

type Transfer = fn(&mut Lab, &mut Counts, SocketAddr) -> anyhow::Result<Answer>;

fn download(lab: &mut Lab, counts: &mut Counts, from: SocketAddr) -> anyhow::Result<Answer> {
    let file = lab.content.file(FILE)?;
    let answer = curl(lab, &url(from, &format!("/a/{FILE}")), &[]);
    counts.check(answer, &Expected::file(SERVERS[0], &file))
}

fn upload(lab: &mut Lab, counts: &mut Counts, to: SocketAddr) -> anyhow::Result<Answer> {
    put(lab, counts, to, 0, FILE, &[NO_EXPECT])
}
