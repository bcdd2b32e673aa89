//! What a scraper, a probe and `baton status` see.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use super::families::{BINDS, FLOWS, PACKETS};
use super::{Registry, metrics, serve};
use crate::checks::Checks;
use crate::config::{Config, Scope};
use crate::context::{Context, Ending, Stopper, stop};
use crate::duty::Duty;
use crate::roll::Roll;

const CONFIG: &str = r#"
node = { name = "proxy1", roles = ["proxy"] }
vip = [{ name = "web", addresses = ["127.0.0.1:80"], default_pool = "pages" }]
pool = [{ name = "pages", mechanism = "relay", servers = [{ name = "b1", weight = 7 }] }]
server = [{ name = "b1", http = "127.0.0.1:8080" }]
"#;

/// A node without data path, and its admin address.
struct Node {
    address: SocketAddr,
    registry: Arc<Registry>,
    stopper: Stopper,
    duty: Duty,
    _config: watch::Sender<Arc<Config>>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Node {
    async fn start(roles: &[&'static str]) -> Self {
        let config = Config::parse(CONFIG, Path::new("baton.toml"), Scope::Elsewhere).unwrap();
        let (sender, config) = watch::channel(Arc::new(config));
        let registry = Arc::new(Registry::new(roles.iter().copied()));
        let (stopper, stop) = stop();
        let duty = Duty::default();
        let context = Context {
            config,
            stop,
            registry: Arc::clone(&registry),
            health: crate::health::board(),
            duty: duty.clone(),
            roll: Roll::default(),
            checks: Checks::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            registry,
            stopper,
            duty,
            _config: sender,
            server: tokio::spawn(serve(listener, context)),
        }
    }

    /// Status code and body.
    async fn get(&self, path: &'static str) -> (String, String) {
        self.ask("GET", path).await
    }

    async fn ask(&self, method: &'static str, path: &'static str) -> (String, String) {
        let address = self.address;
        let exchange = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "{method} {path} HTTP/1.0\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let answer = spawn_blocking(exchange).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
    }
}

#[tokio::test]
async fn healthy_only_once_every_role_is_ready() {
    let node = Node::start(&["proxy", "backend"]).await;
    assert_eq!(
        node.get("/healthz").await,
        ("503".into(), "not ready: backend, proxy\n".into())
    );
    node.registry.ready("proxy", Vec::new);
    assert_eq!(
        node.get("/healthz").await,
        ("503".into(), "not ready: backend\n".into())
    );
    node.registry.ready("backend", Vec::new);
    assert_eq!(node.get("/healthz").await, ("200".into(), "ok\n".into()));
}

#[tokio::test]
async fn status_tells_configuration_roles_and_numbers() {
    let node = Node::start(&["proxy"]).await;
    node.registry
        .ready("proxy", || vec![BINDS.sample(&[("pool", "pages")], 17)]);
    let (code, body) = node.get("/status").await;
    let status: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(code, "200");
    assert_eq!(status["node"], "proxy1");
    assert_eq!(status["roles"]["proxy"], true);
    assert_eq!(status["pools"][0]["servers"]["b1"], 7);
    assert_eq!(status["vips"][0]["handoff"], false);
    assert_eq!(status["metrics"][0]["name"], "baton_binds_total");
    assert_eq!(status["metrics"][0]["labels"]["pool"], "pages");
    assert_eq!(status["metrics"][0]["value"], 17);
}

#[tokio::test]
async fn a_node_is_drained_until_it_is_not() {
    let node = Node::start(&["proxy"]).await;
    let draining = async || {
        let status: Value = serde_json::from_str(&node.get("/status").await.1).unwrap();
        status["draining"] == true
    };
    assert!(!draining().await);
    assert_eq!(
        node.get("/drain").await.0,
        "405",
        "nothing is done by reading"
    );
    assert_eq!(
        node.ask("POST", "/drain").await.0,
        "405",
        "a web page can send this"
    );
    assert!(!draining().await);
    assert_eq!(node.ask("PUT", "/drain").await.0, "200");
    assert!(draining().await && node.duty.is_draining());
    assert_eq!(node.ask("DELETE", "/drain").await.0, "200");
    assert!(!draining().await && !node.duty.is_draining());
}

#[tokio::test]
async fn metrics_are_read_at_the_moment_of_the_scrape() {
    let node = Node::start(&["proxy"]).await;
    let count = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let scrapes = Arc::clone(&count);
    node.registry.ready("proxy", move || {
        let scrape = scrapes.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        vec![FLOWS.sample(&[("role", "proxy")], scrape)]
    });
    assert!(
        node.get("/metrics")
            .await
            .1
            .contains("baton_flows{role=\"proxy\"} 1\n")
    );
    assert!(
        node.get("/metrics")
            .await
            .1
            .contains("baton_flows{role=\"proxy\"} 2\n")
    );
}

#[tokio::test]
async fn the_server_ends_when_the_node_does() {
    let node = Node::start(&[]).await;
    assert_eq!(node.get("/healthz").await.0, "200");
    node.stopper.stop(Ending::Leave);
    node.server.await.unwrap().unwrap();
}

#[test]
fn a_family_stays_in_one_piece_whatever_role_counts_it() {
    let packets =
        |role, verdict, value| PACKETS.sample(&[("role", role), ("verdict", verdict)], value);
    let text = metrics::encode(vec![
        packets("proxy", "forwarded", u64::MAX),
        BINDS.sample(&[], 5),
        packets("backend", "dropped", 2),
    ]);
    let expected = "\
# HELP baton_binds Flows bound to a server for their first request
# TYPE baton_binds counter
baton_binds_total 5
# HELP baton_packets Packets by role, verdict and reason
# TYPE baton_packets counter
baton_packets_total{role=\"proxy\",verdict=\"forwarded\"} 18446744073709551615
baton_packets_total{role=\"backend\",verdict=\"dropped\"} 2
# EOF
";
    assert_eq!(text.unwrap(), expected);
}
