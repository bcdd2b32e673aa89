//! Table 2 of "Fault-tolerant and scalable TCP splice": uploads through one to four proxies on slow cables. Answers and uploads do not
//! share these: only what clients send passes the proxies.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};

use super::Setting;
use super::put::{Uploads, stored};
use super::site::{ALL_ON, Site};
use crate::cluster::{File, Lab};
use crate::interrupt;
use crate::report::{Counts, Recorder};

const PROXIES: u8 = 4;
/// Of each proxy's cable.
const LINK_RATE: u64 = 125_000_000;
/// At once; when one has ended another begins.
const CLIENTS: usize = 100;
/// Until all are under way.
const WARM_UP: Duration = Duration::from_secs(3);

/// # Errors
/// When interrupted.
pub(crate) fn run(recorder: &mut Recorder, setting: &Setting<'_>) -> anyhow::Result<()> {
    let (file, duration) = if setting.short {
        ("1MB", Duration::from_secs(5))
    } else {
        ("10MB", Duration::from_secs(30))
    };
    for proxies in 1..=PROXIES {
        let mut speed = None;
        recorder.case(&format!("9/scale/{proxies}"), |counts| {
            let mut options = setting.options.clone();
            (options.proxies, options.balancers) = (proxies, 1);
            options.proxy_link_rate = Some(LINK_RATE);
            options.measured = true;
            let mut site = Site::new(options, setting.baton);
            let lab = site.lab(ALL_ON)?;
            super::faults::whole(lab)?;
            let file = lab.content.file(file)?;
            let mbit = uploads(lab, counts, &file, duration)?;
            speed = Some(mbit);
            Ok(format!("{mbit:.0} Mbit/s"))
        })?;
        if let Some(mbit) = speed {
            recorder.figure("put", &proxies.to_string(), &[mbit], "Mbit/s");
        }
    }
    for proxies in 2..=PROXIES {
        recorder.ratio("put", &proxies.to_string(), "1");
    }
    Ok(())
}

/// Uploads for so long; what the connections took, in Mbit/s.
fn uploads(
    lab: &mut Lab,
    counts: &mut Counts,
    file: &File,
    duration: Duration,
) -> anyhow::Result<f64> {
    let uploads = Uploads::of(lab, file)?;
    let client = lab.netns("client");
    let (stop, next) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (ended, mbit) = thread::scope(|scope| {
        let running: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut ended = Vec::new();
                    let all = client.inside(|| {
                        while !stop.load(Ordering::Relaxed) && interrupt::check().is_ok() {
                            let name = next.fetch_add(1, Ordering::Relaxed).to_string();
                            let put = uploads.put(&name);
                            let over = put.is_err();
                            ended.push((name, put));
                            if over {
                                break;
                            }
                        }
                        Ok(())
                    });
                    (ended, all)
                })
            })
            .collect();
        thread::sleep(WARM_UP);
        let (start, before) = (Instant::now(), uploads.written());
        thread::sleep(duration);
        let bits = 8.0 * (uploads.written() - before) as f64;
        let mbit = bits / 1e6 / start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let ended: Vec<_> = running
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        (ended, mbit)
    });
    for client in ended {
        let (puts, all) = client.map_err(|_| anyhow!("a thread broke"))?;
        all?;
        for (name, put) in puts {
            stored(lab, counts, &name, put, file)?;
        }
    }
    ensure!(mbit > 0.0, "nothing was uploaded");
    Ok(mbit)
}
