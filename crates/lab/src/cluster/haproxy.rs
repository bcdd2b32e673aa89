//! HAProxy's configuration, to compare with.

use std::fmt::Write;
use std::net::SocketAddr;

use super::POOLS;
use crate::topology::{Family, HTTP_PORT, Host};

/// The same routes as the nodes have, tuned (tried one by one): a thread a core, connections to the servers are kept, bodies are spliced
/// in the kernel through large pipes.
pub(crate) fn haproxy(listen: SocketAddr, backends: &[Host], family: Family) -> String {
    let mut text = format!(
        "global
    maxconn 4096
    tune.pipesize 1048576

defaults
    mode http
    option splice-response
    option splice-request
    http-reuse always
    timeout connect 5s
    timeout client 75s
    timeout server 75s
    timeout http-keep-alive 75s

frontend web
    bind {listen}
"
    );
    let mut pools = String::new();
    for (pool, backend) in POOLS.iter().zip(backends) {
        let server = SocketAddr::new(backend.address(family), HTTP_PORT);
        let _ = writeln!(text, "    use_backend {pool} if {{ path_beg /{pool}/ }}");
        let _ = writeln!(
            pools,
            "\nbackend {pool}\n    server {} {server}",
            backend.name
        );
    }
    text + &pools
}
