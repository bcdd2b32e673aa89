//! What this machine can take over, and what is in the way of its services: looked up now and then, told in each heartbeat.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use baton_kernel::Service;
use baton_wire::{Accepts, Finding, Reason};

use super::listeners;
use super::path;
use super::services::Findings;

/// What the kernel of this network namespace takes over from a handshake that it has not seen (bpf_sk_assign_tcp_reqsk, cookie_v4_check).
pub(super) fn accepts() -> Accepts {
    let is_on = |name: &str| {
        let value = fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
        // What cannot be read is the kernel's default: on.
        value.map_or(true, |value| value.trim() != "0")
    };
    Accepts {
        timestamps: is_on("tcp_timestamps"),
        sack: is_on("tcp_sack"),
        window_scaling: is_on("tcp_window_scaling"),
        syncookies: is_on("tcp_syncookies"),
    }
}

/// What is in the way of these services. `unserved`: what should be served here, and is not. `failing`: what fails its check. `tried`: what came
/// of trying them.
pub(super) fn findings(
    services: &[Service],
    unserved: &[SocketAddr],
    failing: &BTreeSet<SocketAddr>,
    tried: &Findings,
) -> Vec<Finding> {
    let listeners = listeners();
    let has_listener = |service: &&Service| {
        let found = |at: &SocketAddr| {
            at.port() == service.listen.port()
                && (at.ip() == service.listen.ip() || at.ip().is_unspecified())
        };
        // What cannot be known is not held against the server.
        listeners.as_ref().is_none_or(|all| all.iter().any(found))
    };
    let silent = services.iter().filter(|service| !has_listener(service));
    let silent = silent.map(|service| (service.vip, Reason::NoListener));
    let tried = tried.blocked();
    let missing = unserved.iter().map(|vip| (*vip, Reason::NotServed));
    let failing = failing.iter().map(|vip| (*vip, Reason::Unhealthy));
    silent
        .chain(missing)
        .chain(failing)
        .chain(
            tried
                .into_iter()
                .filter_map(|(vip, tried)| Some((vip, reason(tried)?))),
        )
        .map(|(vip, reason)| Finding { vip, reason })
        .collect()
}

fn reason(tried: path::Finding) -> Option<Reason> {
    match tried {
        // The list of listeners is newer.
        path::Finding::Open | path::Finding::NoListener => None,
        path::Finding::Mptcp => Some(Reason::Mptcp),
        path::Finding::Refused => Some(Reason::Refused),
        path::Finding::Blocked => Some(Reason::Blocked),
    }
}

/// Where somebody listens.
fn listeners() -> Option<Vec<SocketAddr>> {
    let all = listeners::listeners().ok()?;
    Some(all.into_iter().map(|(at, _)| at).collect())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_service_without_listener_is_told_and_one_with_is_not() {
        let vip: SocketAddr = "192.0.2.1:80".parse().unwrap();
        for local in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
            let listener = TcpListener::bind(local).unwrap();
            let mut listen = listener.local_addr().unwrap();
            if listen.ip().is_unspecified() {
                listen.set_ip(vip.ip());
            }
            let services = [Service { vip, listen }];
            assert_eq!(
                findings(&services, &[], &BTreeSet::new(), &Findings::default()),
                [],
                "{local}"
            );
            // Another one, so that the list is not empty.
            let _other = TcpListener::bind("127.0.0.1:0").unwrap();
            drop(listener);
            let failing = [vip].into();
            let told = findings(&services, &[vip], &failing, &Findings::default());
            let reasons: Vec<_> = told.iter().map(|finding| finding.reason).collect();
            let expected = [Reason::NoListener, Reason::NotServed, Reason::Unhealthy];
            assert_eq!(reasons, expected, "{local}");
        }
    }
}
