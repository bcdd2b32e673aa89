//! The cluster's keys, from a file that nobody else may read.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use baton_wire::Secrets;

use super::Scope;
use super::reader::Item;
use super::values::text;

/// More than the two lines that a secret file may have.
const MOST_BYTES: u64 = 4096;

/// The secret that the item names; `Some(None)` where another machine has it.
pub(super) fn read(item: &Item<'_>, scope: Scope, folder: &Path) -> Option<Option<Secrets>> {
    let path = folder.join(text(item)?);
    if scope == Scope::Elsewhere {
        return Some(None);
    }
    match open(&path).and_then(|text| parse(&path, &text)) {
        Ok(secrets) => Some(Some(secrets)),
        Err(Unusable { what, help }) => item.wrong(what, help),
    }
}

struct Unusable {
    what: String,
    help: String,
}

/// How to make a secret file.
fn recipe(path: &Path) -> String {
    format!(
        "make one with: (umask 077; openssl rand -hex 32 > {})",
        path.display()
    )
}

fn open(path: &Path) -> Result<String, Unusable> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| Unusable {
        what: format!("{shown} cannot be read: {error}"),
        help: match error.kind() {
            ErrorKind::NotFound => format!("copy the cluster's secret there, or {}", recipe(path)),
            ErrorKind::PermissionDenied => "run baton as the file's owner, or as root".to_owned(),
            _ => format!("write it again; {}", recipe(path)),
        },
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Unusable {
            what: format!("{shown} is open to others (mode {mode:04o})"),
            help: format!("chmod 600 {shown}"),
        });
    }
    let mut text = String::new();
    file.by_ref()
        .take(MOST_BYTES)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ok(text)
}

fn parse(path: &Path, text: &str) -> Result<Secrets, Unusable> {
    Secrets::parse(text).map_err(|error| Unusable {
        what: format!("{}: {error}", path.display()),
        help: format!(
            "write one or two lines of 64 hexadecimal digits; {}",
            recipe(path)
        ),
    })
}
