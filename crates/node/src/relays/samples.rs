//! What a relay counts, as metrics.

use baton_relay::{Stats, UpstreamError};

use crate::admin::families::{
    RELAY_ACCEPT_ERRORS, RELAY_BYTES, RELAY_CONNECTIONS, RELAY_CONNECTIONS_OPEN, RELAY_REQUESTS,
    RELAY_REQUESTS_OPEN, RELAY_SERVER_CONNECTIONS, RELAY_SERVER_ERRORS, RELAY_SERVER_REUSES,
};
use crate::admin::metrics::Sample;

/// The numbers of the relay that works for `role`.
pub fn samples(role: &str, stats: &Stats) -> Vec<Sample> {
    let role = ("role", role);
    let mut samples = vec![
        RELAY_CONNECTIONS.sample(&[role], stats.connections()),
        RELAY_CONNECTIONS_OPEN.sample(&[role], stats.connections_active()),
        RELAY_ACCEPT_ERRORS.sample(&[role], stats.accept_errors()),
        RELAY_REQUESTS_OPEN.sample(&[role], stats.requests_active()),
        RELAY_BYTES.sample(
            &[role, ("direction", "from_clients")],
            stats.bytes_received(),
        ),
        RELAY_BYTES.sample(&[role, ("direction", "to_clients")], stats.bytes_sent()),
        RELAY_SERVER_CONNECTIONS.sample(&[role], stats.upstream_connections()),
        RELAY_SERVER_REUSES.sample(&[role], stats.upstream_reuses()),
    ];
    for (class, name) in (1..).zip(["1xx", "2xx", "3xx", "4xx", "5xx"]) {
        samples.push(RELAY_REQUESTS.sample(&[role, ("status", name)], stats.answers(class)));
    }
    for kind in UpstreamError::ALL {
        samples.push(
            RELAY_SERVER_ERRORS.sample(&[role, ("kind", kind.name())], stats.upstream_errors(kind)),
        );
    }
    samples
}
