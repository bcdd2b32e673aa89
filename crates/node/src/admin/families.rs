//! Every metric of the program.

use super::metrics::Family;

/// Packets that the kernel programs saw; labels `role`, `verdict`, `reason`.
pub static PACKETS: Family =
    Family::counter("baton_packets", "Packets by role, verdict and reason");
/// Flows bound for the first time.
pub static BINDS: Family = Family::counter(
    "baton_binds",
    "Flows bound to a server for their first request",
);
/// Flows that moved from one server to another.
pub static REBINDS: Family = Family::counter(
    "baton_rebinds",
    "Flows moved to another server between requests",
);
/// Answers to release requests; label `outcome`.
pub static RELEASES: Family =
    Family::counter("baton_releases", "Answers to release requests by outcome");
/// Packets that the kernel gave to user space for a decision.
pub static PUNTS: Family =
    Family::counter("baton_punts", "Packets given to user space for a decision");
/// What the owner of the flows saw and decided; label `event`.
pub static DECISIONS: Family = Family::counter(
    "baton_decisions",
    "What was seen and decided about flows, by event",
);
/// What went wrong; label `kind`.
pub static ERRORS: Family = Family::counter("baton_errors", "Errors by kind");
/// Flows in the kernel table; label `role`.
pub static FLOWS: Family = Family::gauge("baton_flows", "Flows in the kernel table");
/// 1 while it is so; labels `vip`, `listen`, `problem`.
pub static SERVICE_PROBLEM: Family = Family::gauge(
    "baton_service_problem",
    "Whether something keeps connections from a web server of this machine",
);
/// Lines of the access log; label `outcome`.
pub static ACCESS_LOG_LINES: Family = Family::counter(
    "baton_access_log_lines",
    "Lines of the access log, by whether they were written",
);
/// Flows whose request is being decided.
pub static PENDING_FLOWS: Family = Family::gauge(
    "baton_pending_flows",
    "Flows whose request is being decided",
);
/// Bytes of undecided requests.
pub static HELD_BYTES: Family = Family::gauge(
    "baton_held_bytes",
    "Bytes of undecided requests held in user space",
);
/// Requests without answer, kept for the case that their server dies.
pub static UNANSWERED_BYTES: Family = Family::gauge(
    "baton_unanswered_bytes",
    "Bytes of requests kept until their server answers",
);
/// Events lost because the ring buffer was full.
pub static RING_LOST: Family = Family::counter(
    "baton_ring_buffer_lost",
    "Events lost because the ring buffer was full",
);
/// Heartbeats between nodes; labels `role`, `event`.
pub static HEARTBEATS: Family =
    Family::counter("baton_heartbeats", "Heartbeats by what became of them");
/// 1 while the VIPs' addresses are at this balancer.
pub static BALANCER_HOLDS: Family = Family::gauge(
    "baton_balancer_holds",
    "Whether this balancer has the VIPs' addresses",
);
/// How often this balancer took them.
pub static BALANCER_TAKEOVERS: Family = Family::counter(
    "baton_balancer_takeovers",
    "Times that this balancer took the VIPs' addresses",
);
/// Parts of the packets; label `proxy`.
pub static BALANCER_SHARE: Family = Family::gauge(
    "baton_balancer_share_per_mille",
    "Part of the packets that a proxy is given",
);
/// Nodes whose configuration of the cluster is another; label `role`.
pub static DIFFERING: Family = Family::gauge(
    "baton_nodes_configured_otherwise",
    "Nodes whose configuration of the cluster is another than this one's",
);
/// Checks of web servers; label `outcome`.
pub static CHECKS: Family = Family::counter("baton_checks", "Checks of web servers by outcome");
/// Web servers that fail their checks.
pub static CHECKS_DOWN: Family =
    Family::gauge("baton_checks_down", "Web servers taken out by their checks");
/// Servers that have an agent; label `state`.
pub static SERVERS: Family = Family::gauge("baton_servers", "Servers of handoff pools by state");
/// Entries of flows between proxies; label `outcome`.
pub static REPLICAS: Family = Family::counter(
    "baton_replicas",
    "Entries of flows to and from other proxies, by what became of them",
);
/// The cluster's proxies; label `state`.
pub static PROXIES: Family = Family::gauge("baton_proxies", "Proxies of the cluster by state");
/// Of 16384.
pub static OWNED_SLOTS: Family = Family::gauge(
    "baton_owned_slots",
    "Slots of flows that this proxy decides about",
);
/// 1 while it may.
pub static DECIDES: Family =
    Family::gauge("baton_decides", "Whether this proxy may decide about flows");
/// Client connections of a relay; label `role` says whom it works for, here and below.
pub static RELAY_CONNECTIONS: Family =
    Family::counter("baton_relay_connections", "Client connections accepted");
/// Client connections that are open.
pub static RELAY_CONNECTIONS_OPEN: Family = Family::gauge(
    "baton_relay_connections_open",
    "Client connections open now",
);
/// Client connections that could not be accepted.
pub static RELAY_ACCEPT_ERRORS: Family = Family::counter(
    "baton_relay_accept_errors",
    "Connections that could not be accepted",
);
/// Requests by the class of their answers' status; label `status`.
pub static RELAY_REQUESTS: Family =
    Family::counter("baton_relay_requests", "Requests by status of the answer");
/// Requests that are not completely answered.
pub static RELAY_REQUESTS_OPEN: Family = Family::gauge(
    "baton_relay_requests_open",
    "Requests not completely answered now",
);
/// Bytes, heads included; label `direction`.
pub static RELAY_BYTES: Family = Family::counter(
    "baton_relay_bytes",
    "Bytes from and to clients, heads included",
);
/// Connections made to servers.
pub static RELAY_SERVER_CONNECTIONS: Family = Family::counter(
    "baton_relay_server_connections",
    "Connections made to servers",
);
/// Requests on a server connection that had served another.
pub static RELAY_SERVER_REUSES: Family = Family::counter(
    "baton_relay_server_reuses",
    "Requests on a server connection used before",
);
/// What went wrong with servers; label `kind`.
pub static RELAY_SERVER_ERRORS: Family =
    Family::counter("baton_relay_server_errors", "Failures of servers by kind");
