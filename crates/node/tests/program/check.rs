//! `baton check`.

use std::process::Command;

use serde_json::Value;

use crate::baton::PROGRAM;

fn check(arguments: &[&str]) -> (bool, String) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bad");
    let output = Command::new(PROGRAM)
        .arg("check")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn text_is_the_report() {
    let expected = include_str!("../bad/many-errors.report");
    assert_eq!(
        check(&["--offline", "many-errors.toml"]),
        (false, expected.to_owned())
    );
}

#[test]
fn json_is_one_object_with_the_same_errors() {
    let (ok, json) = check(&["--offline", "--json", "many-errors.toml"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    assert!(!ok);
    assert_eq!(report["ok"], false);
    assert_eq!(report["file"], "many-errors.toml");
    let errors = report["errors"].as_array().unwrap();
    let expected = include_str!("../bad/many-errors.report");
    assert!(expected.ends_with(&format!(" {} errors\n", errors.len())));
    for error in errors {
        let line = format!(
            "many-errors.toml:{}:{}: {}\n",
            error["line"],
            error["column"],
            error["message"].as_str().unwrap()
        );
        assert!(expected.contains(&line), "{line}");
    }
}

#[test]
fn a_right_file_is_ok() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("right.toml");
    let text = "node = { name = 'n', roles = ['proxy'] }\nvip = [{ name = 'v', addresses = ['127.0.0.1:80'] }]\n";
    std::fs::write(&file, text).unwrap();
    let name = file.to_str().unwrap();
    assert_eq!(check(&[name]), (true, format!("{name}: ok\n")));
    let report: Value = serde_json::from_str(&check(&["--json", name]).1).unwrap();
    assert_eq!(
        (&report["ok"], report["errors"].as_array().unwrap().len()),
        (&true.into(), 0)
    );
}
