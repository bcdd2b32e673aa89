//! `baton run` with relay pools only.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::baton::{Baton, PROGRAM, eventually, get, own_address};
use crate::origin::origin;

/// A node with two servers, each with its pool.
struct Node {
    folder: TempDir,
    vip: SocketAddr,
    admin: SocketAddr,
    servers: [SocketAddr; 2],
}

impl Node {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            vip: own_address(8080),
            admin: own_address(9660),
            servers: [origin("pages"), origin("images")],
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("baton.toml")
    }

    /// Writes the configuration; requests below `images` go to the other pool.
    fn write(&self, images: &str) {
        let Self {
            vip,
            admin,
            servers: [pages, other],
            ..
        } = self;
        let text = format!(
            r#"
node = {{ name = "n", roles = ["proxy"], admin = "{admin}", log_format = "json" }}
vip = [{{ name = "web", addresses = ["{vip}"], default_pool = "pages" }}]
server = [{{ name = "s1", http = "{pages}" }}, {{ name = "s2", http = "{other}" }}]
pool = [
    {{ name = "pages", mechanism = "relay", servers = ["s1"] }},
    {{ name = "images", mechanism = "relay", servers = ["s2"] }},
]
route = [{{ path_prefix = "{images}", pool = "images" }}]
"#
        );
        std::fs::write(self.file(), text).unwrap();
    }

    fn start(&self) -> Baton {
        let baton = Baton::start(&["run", "--config", self.file().to_str().unwrap()]);
        eventually(Some("ok\n".to_owned()), || self.admin("/healthz"));
        baton
    }

    fn admin(&self, path: &str) -> Option<String> {
        Some(get(self.admin, path).ok()?.1)
    }

    fn body(&self, path: &str) -> String {
        get(self.vip, path).unwrap().1
    }
}

#[test]
fn requests_follow_the_routes_and_are_counted() {
    let node = Node::new();
    node.write("/images/");
    let baton = node.start();
    assert_eq!(
        [node.body("/"), node.body("/images/x"), node.body("/images")],
        ["pages", "images", "pages"]
    );
    let metrics = node.admin("/metrics").unwrap();
    let line = "baton_relay_requests_total{role=\"relay\",status=\"2xx\"} 3\n";
    assert!(metrics.contains(line), "{metrics}");

    let admin = node.admin.to_string();
    let status = Command::new(PROGRAM)
        .args(["status", "--json", "--admin", &admin])
        .output()
        .unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["roles"]["relay"], true);
    let table = Command::new(PROGRAM)
        .args(["status", "--admin", &admin])
        .output()
        .unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.starts_with("n: ready, up "), "{table}");
    assert!(
        table.contains("baton_relay_requests_total role=relay status=2xx "),
        "{table}"
    );

    baton.signal(Signal::SIGINT);
    let (ended, log) = baton.end();
    assert!(ended.success(), "{log}");
    assert!(get(node.vip, "/").is_err(), "nobody listens any more");
}

#[test]
fn clients_that_do_not_speak_out_do_not_hold_up_the_end() {
    let node = Node::new();
    node.write("/images/");
    let baton = node.start();
    let _silent = TcpStream::connect(node.vip).unwrap();
    let mut halting = TcpStream::connect(node.admin).unwrap();
    halting.write_all(b"GET /metr").unwrap();
    // Both were accepted before these answers.
    assert_eq!(
        (node.body("/"), node.admin("/healthz")),
        ("pages".into(), Some("ok\n".into()))
    );
    baton.signal(Signal::SIGTERM);
    let (ended, log) = baton.end();
    assert!(ended.success(), "{log}");
}

#[test]
fn a_reload_takes_what_is_right_and_refuses_what_is_wrong() {
    let node = Node::new();
    node.write("/images/");
    let mut baton = node.start();
    assert_eq!(node.body("/pictures/x"), "pages");
    node.write("/pictures/");
    baton.signal(Signal::SIGHUP);
    eventually("images".to_owned(), || node.body("/pictures/x"));
    assert_eq!(node.body("/images/x"), "pages");

    let right = std::fs::read_to_string(node.file()).unwrap();
    std::fs::write(
        node.file(),
        right.replace("pool = \"images\"", "pool = \"imagse\""),
    )
    .unwrap();
    baton.signal(Signal::SIGHUP);
    let line = baton.log_line("imagse");
    let error: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(error["level"], "ERROR");
    assert_eq!(error["fields"]["line"], 9);
    assert_eq!(error["fields"]["help"], "did you mean \"images\"?");
    baton.log_line("the old configuration stays");
    assert_eq!(node.body("/pictures/x"), "images");
}

#[test]
fn a_reload_opens_and_closes_vips() {
    let node = Node::new();
    node.write("/images/");
    let baton = node.start();
    let other = own_address(8080);
    let moved = std::fs::read_to_string(node.file())
        .unwrap()
        .replace(&node.vip.to_string(), &other.to_string());
    std::fs::write(node.file(), moved).unwrap();
    baton.signal(Signal::SIGHUP);
    eventually(Some("pages".to_owned()), || Some(get(other, "/").ok()?.1));
    eventually(true, || get(node.vip, "/").is_err());
}

#[test]
fn a_wrong_configuration_does_not_start() {
    let node = Node::new();
    node.write("/images/");
    let wrong = std::fs::read_to_string(node.file())
        .unwrap()
        .replace("name = \"n\"", "nmae = \"n\"");
    std::fs::write(node.file(), wrong).unwrap();
    let (status, log) = Baton::start(&["run", "--config", node.file().to_str().unwrap()]).end();
    assert!(!status.success());
    assert!(
        log.contains("baton.toml:2:10: unknown key \"nmae\" in [node]"),
        "{log}"
    );
    assert!(log.contains("missing key \"name\" in [node]"), "{log}");
}
