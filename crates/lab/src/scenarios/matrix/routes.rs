//! Section 4: routes by everything that a route can ask for.

use crate::client::{Expected, NO_SERVER, curl, url};
use crate::cluster::Lab;
use crate::report::{Counts, Recorder};
use crate::scenarios::SERVERS;

use super::edit::{with_routes, without_default};
use super::{Ground, PROXY};

/// No two kinds of conditions meet in a request, except where that is what is tried. Pools are not the ones that the content's prefixes
/// have in other cases.
const ROUTES: &str = r#"
[[route]]
host = "exact.example"
pool = "a"

[[route]]
host = "*.suffix.example"
pool = "b"

[[route]]
path = "/1KB"
pool = "c"

[[route]]
path_prefix = "/a/"
pool = "b"

[[route]]
path_regex = "^/(10|20)MB$"
pool = "a"

[[route]]
method = ["PUT", "DELETE"]
pool = "c"

[[route]]
header = { name = "X-Color", value = "red" }
pool = "a"

[[route]]
header = { name = "X-Present" }
pool = "b"

[[route]]
cookie = { name = "color", value = "red" }
pool = "c"

[[route]]
query = { name = "color", value = "red" }
pool = "b"

[[route]]
header = { name = "X-Both", value = "yes" }
query = { name = "both", value = "yes" }
pool = "c"

[[route]]
path = "/b/whoami"
pool = "a"

[[route]]
path = "/b/whoami"
pool = "b"

[[route]]
path = "/c/1KB"
pool = "c"

[[route]]
path_prefix = "/c/"
pool = "a"
"#;

/// A request: what curl is told, the path, and who is to answer: a server by its place, or nobody (404).
type Asked = (&'static [&'static str], &'static str, Option<usize>);

const CASES: [(&str, &[Asked]); 12] = [
    (
        "host-exact",
        &[
            (&["-H", "Host: exact.example"], "/whoami", Some(0)),
            (&["-H", "Host: EXACT.example:8000"], "/whoami", Some(0)),
            (&["-H", "Host: an.exact.example"], "/whoami", None),
            (&["-H", "Host: exact.example.org"], "/whoami", None),
        ],
    ),
    (
        "host-suffix",
        &[
            (&["-H", "Host: www.suffix.example"], "/whoami", Some(1)),
            (&["-H", "Host: a.b.Suffix.Example"], "/1MB", Some(1)),
            (&["-H", "Host: suffix.example"], "/whoami", None),
            (&["-H", "Host: notsuffix.example"], "/whoami", None),
        ],
    ),
    (
        "path-exact",
        &[
            (&[], "/1KB", Some(2)),
            (&[], "/1KB?a=b", Some(2)),
            (&[], "/1KB/", None),
        ],
    ),
    (
        "path-prefix",
        &[
            (&[], "/a/whoami", Some(1)),
            (&[], "/a/1MB", Some(1)),
            (&[], "/A/whoami", None),
        ],
    ),
    (
        "path-regex",
        &[
            (&[], "/10MB", Some(0)),
            (&[], "/20MB?a", Some(0)),
            (&[], "/100MB", None),
            (&[], "/x/10MB", None),
        ],
    ),
    (
        "header",
        &[
            (&["-H", "X-Color: red"], "/whoami", Some(0)),
            (&["-H", "x-color:  red"], "/whoami", Some(0)),
            (&["-H", "X-Color: blue"], "/whoami", None),
            (&["-H", "X-Present: whatever"], "/whoami", Some(1)),
        ],
    ),
    (
        "cookie",
        &[
            (&["-H", "Cookie: color=red"], "/whoami", Some(2)),
            (&["-H", "Cookie: x=y; color=red; z=z"], "/whoami", Some(2)),
            (
                &["-H", "Cookie: color=reddish; acolor=red"],
                "/whoami",
                None,
            ),
        ],
    ),
    (
        "query",
        &[
            (&[], "/whoami?color=red", Some(1)),
            (&[], "/1MB?a=b&color=red&c", Some(1)),
            (&[], "/whoami?color=redder&xcolor=red", None),
        ],
    ),
    (
        "all-conditions",
        &[
            (&["-H", "X-Both: yes"], "/whoami?both=yes", Some(2)),
            (&["-H", "X-Both: yes"], "/whoami", None),
            (&[], "/whoami?both=yes", None),
        ],
    ),
    (
        "first-match",
        &[
            (&[], "/b/whoami", Some(0)),
            (&[], "/c/1KB", Some(2)),
            (&[], "/c/whoami", Some(0)),
        ],
    ),
    (
        "no-route-404",
        &[(&[], "/whoami", None), (&[], "/1MB", None)],
    ),
    // The last, as it needs another configuration.
    (
        "default-pool",
        &[
            (&[], "/whoami", Some(1)),
            (&["-H", "X-Color: blue"], "/1MB", Some(1)),
            (&["-H", "X-Color: red"], "/whoami", Some(0)),
        ],
    ),
];

pub(super) fn cases(recorder: &mut Recorder, ground: &mut Ground<'_>) -> anyhow::Result<()> {
    for (name, requests) in CASES {
        recorder.case(&format!("4/routes-by-{name}"), |counts| {
            let lab = ground.lab()?;
            configure(lab, name == "default-pool")?;
            for (number, request) in requests.iter().enumerate() {
                ask(lab, counts, request)
                    .map_err(|error| error.context(format!("request {}", number + 1)))?;
            }
            Ok(format!("{} requests", requests.len()))
        })?;
    }
    recorder.case("4/routes-by-method", |counts| {
        let lab = ground.lab()?;
        configure(lab, false)?;
        by_method(lab, counts)
    })
}

fn configure(lab: &mut Lab, default_pool: bool) -> anyhow::Result<()> {
    let text = with_routes(&lab.configuration(PROXY)?, ROUTES);
    let text = if default_pool {
        text.replace("default_pool = \"all\"", "default_pool = \"b\"")
    } else {
        without_default(&text)
    };
    lab.run_with(PROXY, &text)
}

fn ask(lab: &mut Lab, counts: &mut Counts, request: &Asked) -> anyhow::Result<()> {
    let &(arguments, path, server) = request;
    let name = path.split('?').next().unwrap_or(path);
    let name = name.rsplit('/').next().unwrap_or(name);
    let expected = match server.map(|place| SERVERS[place]) {
        None => Expected::status(404, NO_SERVER),
        Some(server) if name == "whoami" => {
            Expected::status(200, server).bytes(format!("{server}\n").as_bytes())
        }
        Some(server) => Expected::file(server, &lab.content.file(name)?),
    };
    let answer = curl(lab, &url(lab.vip(), path), arguments);
    counts.check(answer, &expected).map(drop)
}

/// What is put by one method is gone by the other, both at the server of the route; others have no route.
fn by_method(lab: &mut Lab, counts: &mut Counts) -> anyhow::Result<String> {
    let body = lab.content.file("1KB")?.path.display().to_string();
    let to = url(lab.vip(), "/put/by-method");
    let requests: [(&[&str], Expected); 4] = [
        (&["-T", &body], Expected::status(201, SERVERS[2])),
        (&["-X", "DELETE"], Expected::status(204, SERVERS[2])),
        (&["-X", "POST", "-d", "x"], Expected::status(404, NO_SERVER)),
        (&[], Expected::status(404, NO_SERVER)),
    ];
    for (arguments, expected) in requests {
        counts.check(curl(lab, &to, arguments), &expected)?;
    }
    Ok("PUT and DELETE have a route, GET and POST have none".into())
}
