//! What is wrong with the services of this machine: found by the test of their paths, told in the log once, and in the metrics.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use baton_kernel::Service;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::path::{Finding, PathTest};
use super::services_of;
use crate::admin::{Sample, families};
use crate::context::Context;

/// While something is wrong, it is looked at so often; and at least so much time is between two looks.
const SOON: Duration = Duration::from_secs(2);
const LEAST: Duration = Duration::from_secs(1);

/// How `sysctl` shows whether connections may begin in the middle (Documentation/networking/nf_conntrack-sysctl.rst).
const LOOSE: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_loose";

/// The newest findings, shared with whoever tells of them.
#[derive(Default)]
pub(super) struct Findings(Mutex<BTreeMap<SocketAddr, (Service, Finding)>>);

impl Findings {
    pub(super) fn samples(&self) -> Vec<Sample> {
        let found = self.found();
        let problems = |(service, finding): &(Service, Finding)| {
            let (vip, listen) = (service.vip.to_string(), service.listen.to_string());
            let finding = *finding;
            Finding::PROBLEMS.map(|(problem, name)| {
                let labels = [
                    ("vip", vip.as_str()),
                    ("listen", listen.as_str()),
                    ("problem", name),
                ];
                families::SERVICE_PROBLEM.sample(&labels, u64::from(finding == problem))
            })
        };
        found.values().flat_map(problems).collect()
    }

    /// What is in the way of which VIP.
    pub(super) fn blocked(&self) -> Vec<(SocketAddr, Finding)> {
        let found = self.found();
        let blocked = found
            .iter()
            .filter(|(_, (_, finding))| *finding != Finding::Open);
        blocked
            .map(|(vip, (_, finding))| (*vip, *finding))
            .collect()
    }

    fn all_open(&self) -> bool {
        self.found()
            .values()
            .all(|(_, finding)| *finding == Finding::Open)
    }

    /// Whether it is news.
    fn set(&self, service: Service, finding: Finding) -> bool {
        let before = self.found().insert(service.vip, (service, finding));
        before.map_or(finding != Finding::Open, |(_, before)| before != finding)
    }

    fn keep(&self, services: &[Service]) {
        let vips = |vip: &SocketAddr| services.iter().any(|service| service.vip == *vip);
        self.found().retain(|vip, _| vips(vip));
    }

    fn found(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, (Service, Finding)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Finding {
    const PROBLEMS: [(Self, &'static str); 4] = [
        (Self::NoListener, "no_listener"),
        (Self::Mptcp, "mptcp_listener"),
        (Self::Refused, "refused"),
        (Self::Blocked, "blocked"),
    ];
}

/// Tests the paths of all services: now, after each reload, after a bind was refused, and at intervals.
pub(super) async fn watch(
    test: PathTest,
    findings: Arc<Findings>,
    look_again: Arc<Notify>,
    context: Context,
) {
    loop {
        let config = context.config.borrow().clone();
        let services = services_of(&config);
        findings.keep(&services);
        for service in services {
            match test.examine(&config, service).await {
                Ok(finding) if findings.set(service, finding) => tell(service, finding),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(vip = %service.vip, error = format!("{error:#}"), "the path to the web server could not be tested");
                }
            }
        }
        let pause = if findings.all_open() {
            config.backend.path_test_interval
        } else {
            SOON
        };
        sleep(LEAST).await;
        tokio::select! {
            () = sleep(pause) => {}
            () = look_again.notified() => {}
        }
    }
}

fn tell(service: Service, finding: Finding) {
    let Service { vip, listen } = service;
    match finding {
        Finding::Open => tracing::info!(%vip, %listen, "the web server gets its connections"),
        Finding::NoListener => tracing::warn!(
            %vip, %listen,
            "nobody listens there: start the web server, or correct listen in [[backend.service]]"
        ),
        Finding::Mptcp => tracing::warn!(
            %vip, %listen,
            "the web server listens with MPTCP, and the kernel hands it no connection: switch it off there (Go: GODEBUG=multipathtcp=0 in the \
             web server's environment), or use a relay pool"
        ),
        Finding::Refused => tracing::warn!(
            %vip, %listen,
            "the kernel refuses to hand connections to the web server: is net.ipv4.tcp_syncookies 0?"
        ),
        Finding::Blocked => tracing::warn!(
            %vip, %listen,
            "a connection that was handed over does not reach the web server: {} (docs/firewall.md has the rules)",
            suspicion()
        ),
    }
}

fn suspicion() -> &'static str {
    match std::fs::read_to_string(LOOSE) {
        Ok(value) if value.trim() == "0" => {
            "probably this host's firewall drops it as invalid, since net.netfilter.nf_conntrack_tcp_loose is 0: exempt the VIP from connection tracking (notrack)"
        }
        _ => {
            "probably this host's firewall drops it, because it tracks connections and did not see the handshake (\"new and not SYN\", \"ct state invalid\"), \
             or because only the listener's own port is open: exempt the VIP from connection tracking (notrack) and accept it"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(vip: &str) -> Service {
        Service {
            vip: vip.parse().unwrap(),
            listen: "127.0.0.1:8080".parse().unwrap(),
        }
    }

    #[test]
    fn only_news_are_told_and_what_is_gone_is_forgotten() {
        let (findings, one) = (Findings::default(), service("10.77.0.10:80"));
        assert!(!findings.set(one, Finding::Open), "as it should be");
        assert!(findings.set(one, Finding::Blocked));
        assert!(!findings.set(one, Finding::Blocked));
        assert!(!findings.all_open());
        assert!(findings.set(one, Finding::Open));
        findings.set(one, Finding::Mptcp);
        findings.keep(&[service("10.77.0.11:80")]);
        assert!(findings.samples().is_empty());
    }
}
