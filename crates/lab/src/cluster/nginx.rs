//! nginx's configuration, on the back ends and (to compare with) as a proxy.

use std::fmt::Write;
use std::path::Path;

use super::POOLS;
use crate::topology::{Family, HTTP_PORT, Host};

/// Port on the back ends' loopback where `baton lab origin` answers what nginx cannot.
pub(crate) const ORIGIN_PORT: u16 = 8090;

/// A back end. It listens on loopback, where the agent adopts flows for it, and on the host's addresses, for everything else.
///
/// Each path also exists below `/a/`, `/b/` and `/c/`; `dir` is this server's own, `root` is shared by all.
pub(crate) fn backend(host: &Host, dir: &Path, root: &Path, measured: bool) -> String {
    let (name, dir, root) = (&host.name, dir.display(), root.display());
    let (v4, v6) = (host.v4(), host.v6());
    let common = common(&dir.to_string());
    let (log, listener) = if measured {
        ("off".to_owned(), "reuseport")
    } else {
        (format!("{dir}/access.log lab buffer=32k flush=100ms"), "")
    };
    format!(
        r#"{common}
    log_format lab '$connection $connection_requests $remote_addr "$request" $status $body_bytes_sent';
    access_log {log};
    client_body_temp_path {dir}/body;
    client_max_body_size 0;

    server {{
        listen 127.0.0.1:{HTTP_PORT} backlog=4096 {listener};
        listen [::1]:{HTTP_PORT} backlog=4096 {listener};
        listen {v4}:{HTTP_PORT} backlog=4096 {listener};
        listen [{v6}]:{HTTP_PORT} backlog=4096 {listener};
        add_header X-Backend {name} always;
        root {root};

        location ~ ^/([abc]/)?whoami$ {{ default_type text/plain; return 200 "{name}\n"; }}
        location ~ ^/([abc]/)?unique$ {{ root {dir}; rewrite ^ /unique break; }}
        location ~ ^/([abc]/)?brief$ {{ keepalive_timeout 100ms; default_type text/plain; return 200 "{name}\n"; }}
        location ~ ^/([abc]/)?own/ {{ root {dir}; rewrite ^/(?:[abc]/)?own/(.*)$ /own/$1 break; }}
        location ~ ^/([abc]/)?chunked/ {{ root {dir}; ssi on; ssi_types *; rewrite ^/(?:[abc]/)?chunked/(.*)$ /own/$1 break; }}
        location ~ ^/([abc]/)?put/ {{ root {dir}; dav_methods PUT DELETE; create_full_put_path on; }}
        location ~ ^/([abc]/)?echo$ {{ proxy_pass http://127.0.0.1:{ORIGIN_PORT}; }}
        location ~ ^/([abc]/)?(events|late|socket)$ {{
            proxy_pass http://127.0.0.1:{ORIGIN_PORT};
            proxy_buffering off;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $http_connection;
        }}
        location ~ ^/([abc]/)?closing/ {{ keepalive_timeout 0; rewrite ^/([abc]/)?closing(/.*)$ $2 break; }}
        location ~ ^/([abc]/)?hasty/ {{ keepalive_timeout 1s; rewrite ^/([abc]/)?hasty(/.*)$ $2 break; }}
    }}
}}
"#
    )
}

/// A second one on a back end, for other listeners: one a worker, on all addresses, or one on loopback alone.
pub(super) fn other(
    host: &Host,
    dir: &Path,
    root: &Path,
    name: &str,
    port: u16,
    workers: bool,
) -> String {
    let mut listen = format!("listen 127.0.0.1:{port}{{}}; listen [::1]:{port}{{}};");
    if workers {
        let _ = write!(
            listen,
            " listen {}:{port}{{}}; listen [{}]:{port}{{}};",
            host.v4(),
            host.v6()
        );
    }
    let (listen, end) = if workers {
        (listen.replace("{}", " reuseport"), "keepalive_timeout 0;")
    } else {
        (listen.replace("{}", ""), "")
    };
    let common = common(&dir.display().to_string())
        .replace("worker_processes auto", "worker_processes 2")
        .replace("nginx.pid", &format!("{name}.pid"));
    let (backend, root) = (&host.name, root.display());
    format!(
        r#"{common}
    access_log off;
    server {{
        {listen}
        {end}
        add_header X-Backend {backend} always;
        add_header X-Worker $pid always;
        root {root};
    }}
}}
"#
    )
}

/// A proxy with the same routes and pools as the nodes have, tuned: connections spread evenly over the workers, those to the servers are
/// kept, answers do not touch the disk.
pub(crate) fn proxy(
    dir: &Path,
    listen: std::net::SocketAddr,
    backends: &[Host],
    family: Family,
) -> String {
    let mut text = common(&dir.display().to_string());
    text += "    access_log off;\n    proxy_http_version 1.1;\n    proxy_set_header Connection \"\";\n    proxy_max_temp_file_size 0;\n";
    text += "    proxy_buffers 32 32k;\n    proxy_buffer_size 32k;\n    proxy_busy_buffers_size 512k;\n    client_max_body_size 0;\n    proxy_request_buffering off;\n";
    let mut locations = "        location / { proxy_pass http://all; }\n".to_owned();
    upstream(&mut text, "all", backends, family);
    for (pool, backend) in POOLS.iter().zip(backends) {
        upstream(&mut text, pool, std::slice::from_ref(backend), family);
        let _ = writeln!(
            locations,
            "        location /{pool}/ {{ proxy_pass http://{pool}; }}"
        );
    }
    let _ = writeln!(
        text,
        "    server {{\n        listen {listen} backlog=4096 reuseport;\n{locations}    }}\n}}"
    );
    text
}

/// The workers share the zone, and with it whose turn it is.
fn upstream(text: &mut String, name: &str, backends: &[Host], family: Family) {
    let _ = write!(text, "    upstream {name} {{ zone {name} 64k; ");
    for backend in backends {
        let server = std::net::SocketAddr::new(backend.address(family), HTTP_PORT);
        let _ = write!(text, "server {server}; ");
    }
    let _ = writeln!(text, "keepalive 128; keepalive_requests 1000000000; }}");
}

/// What does not depend on the role; leaves the block `http` open.
fn common(dir: &str) -> String {
    format!(
        r"daemon off;
user root;
worker_processes auto;
worker_rlimit_nofile 20000;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections 19000; }}
http {{
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    default_type application/octet-stream;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    scgi_temp_path {dir}/scgi;
    uwsgi_temp_path {dir}/uwsgi;
"
    )
}
