//! What depends on this machine: interfaces, and the secret file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::{Config, Report, Scope};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A back end's configuration in a folder of its own.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn secret(self, text: &str, mode: u32) -> Self {
        let path = self.0.path().join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn load(&self, interface: &str, scope: Scope) -> Result<Config, Report> {
        let file = self.0.path().join("backend.toml");
        let text = format!(
            r#"
[node]
name = "backend1"
roles = ["backend"]
interfaces = ["{interface}"]
address = "10.77.0.21"
secret_file = "secret"
[[vip]]
name = "web"
addresses = ["10.77.0.10:80"]
[[backend.service]]
vip = "web"
listen = "127.0.0.1:8080"
"#
        );
        fs::write(&file, text).unwrap();
        Config::load(&file, scope)
    }

    /// The one error that the file gives: its line, what is wrong, what to do.
    fn error(&self, interface: &str) -> (usize, String, String) {
        let report = self.load(interface, Scope::ThisMachine).unwrap_err();
        let [error] = &report.errors[..] else {
            panic!("{report}");
        };
        (error.line, error.message.clone(), error.help.clone())
    }
}

#[test]
fn a_secret_of_two_keys_is_read_relative_to_the_file() {
    let machine = Machine::new().secret(&format!("{KEY}\n{}\n", KEY.replace('0', "f")), 0o600);
    let secrets = machine
        .load("lo", Scope::ThisMachine)
        .unwrap()
        .node
        .secrets
        .unwrap();
    assert_eq!(secrets.current.cookie[15], 0x1f);
    assert_eq!(secrets.previous.unwrap().cookie[0], 0x1f);
}

#[test]
fn a_missing_interface_is_an_error_here_and_not_elsewhere() {
    let machine = Machine::new().secret(KEY, 0o600);
    let (line, message, help) = machine.error("baton-none0");
    assert_eq!(line, 5);
    assert_eq!(
        message,
        "\"interfaces\" in [node]: this machine has no interface \"baton-none0\""
    );
    assert!(help.contains("lo") && help.contains("--offline"), "{help}");
    assert!(machine.load("baton-none0", Scope::Elsewhere).is_ok());
}

#[test]
fn a_missing_secret_is_an_error_here_and_not_elsewhere() {
    let machine = Machine::new();
    let (line, message, help) = machine.error("lo");
    assert_eq!(line, 7);
    assert!(
        message.contains("cannot be read: No such file"),
        "{message}"
    );
    assert!(help.contains("openssl rand -hex 32"), "{help}");
    let config = machine.load("lo", Scope::Elsewhere).unwrap();
    assert_eq!(config.node.secrets, None);
}

#[test]
fn a_secret_that_others_may_read_is_refused() {
    for mode in [0o640, 0o604, 0o620] {
        let (line, message, help) = Machine::new().secret(KEY, mode).error("lo");
        assert_eq!(line, 7);
        assert!(
            message.contains(&format!("open to others (mode {mode:04o})")),
            "{message}"
        );
        assert!(help.starts_with("chmod 600 "), "{help}");
    }
}

#[test]
fn a_malformed_secret_names_its_line_and_not_its_digits() {
    let broken = &KEY[1..];
    for (text, problem) in [
        (format!("{KEY}\n{broken}"), "line 2"),
        (String::new(), "empty"),
        (format!("{KEY}\n{KEY}\n{KEY}"), "third"),
    ] {
        let (line, message, help) = Machine::new().secret(&text, 0o600).error("lo");
        assert_eq!(line, 7);
        assert!(message.contains(problem), "{message}");
        assert!(
            !message.contains("0102") && !help.contains("0102"),
            "{message} {help}"
        );
    }
}

#[test]
fn a_file_that_is_not_there_is_a_report_too() {
    let report =
        Config::load(Path::new("/nonexistent/baton.toml"), Scope::ThisMachine).unwrap_err();
    let shown = report.to_string();
    assert!(
        shown.starts_with("/nonexistent/baton.toml:1:1: cannot be read"),
        "{shown}"
    );
}
