//! HAProxy's configuration, to compare with.

use std::fmt::Write;
use std::net::SocketAddr;

use super::POOLS;
use crate::topology::{Family, HTTP_PORT, Host};

/// The same routes and pools as the nodes have, tuned (tried one by one): a thread a core, connections to the servers are kept, bodies are spliced
/// in the kernel through large pipes.
pub(crate) fn haproxy(listen: SocketAddr, backends: &[Host], family: Family) -> String {
    let mut text = format!(
        "global
    maxconn 7500
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
    let mut pools = "\nbackend all\n    balance roundrobin\n".to_owned();
    for backend in backends {
        let server = SocketAddr::new(backend.address(family), HTTP_PORT);
        let _ = writeln!(pools, "    server {} {server}", backend.name);
    }
    for (pool, backend) in POOLS.iter().zip(backends) {
        let server = SocketAddr::new(backend.address(family), HTTP_PORT);
        let _ = writeln!(text, "    use_backend {pool} if {{ path_beg /{pool}/ }}");
        let _ = writeln!(
            pools,
            "\nbackend {pool}\n    server {} {server}",
            backend.name
        );
    }
    text += "    default_backend all\n";
    text + &pools
}
