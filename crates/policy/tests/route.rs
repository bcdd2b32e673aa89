//! Which pool a request is led to.

#![allow(clippy::unwrap_used, clippy::panic)]

use baton_packet::{Parsed, RequestHead};
use baton_policy::{
    Cluster, ClusterError, FieldPattern, HostPattern, Mechanism, Member, MethodPattern,
    PathPattern, Policy, Pool, PoolId, Request, Route, Routes, ServerId,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Sent {
    method: &'static str,
    host: Option<&'static str>,
    path: &'static str,
    query: Option<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
}

impl Request for Sent {
    fn method(&self) -> &str {
        self.method
    }
    fn host(&self) -> Option<&str> {
        self.host
    }
    fn path(&self) -> &str {
        self.path
    }
    fn query(&self) -> Option<&str> {
        self.query
    }
    fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        let called = move |(sent, _): &&(&str, &str)| sent.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .filter(called)
            .map(|(_, value)| value.as_bytes())
    }
}

fn get(path: &'static str) -> Sent {
    Sent {
        method: "GET",
        host: Some("www.example.com"),
        path,
        query: None,
        headers: Vec::new(),
    }
}

/// Does a route with what `condition` sets match `request`?
fn matches(condition: impl Fn(&mut Route), request: &Sent) -> bool {
    let mut route = Route::to(PoolId(1));
    condition(&mut route);
    Routes::new(vec![route], vec![Some(PoolId(0))]).decide(0, request) == Some(PoolId(1))
}

fn host_matches(pattern: &str, host: Option<&'static str>) -> bool {
    let pattern = HostPattern::parse(pattern).unwrap();
    matches(
        |route| route.host = Some(pattern.clone()),
        &Sent { host, ..get("/") },
    )
}

fn path_matches(pattern: &PathPattern, path: &'static str) -> bool {
    matches(|route| route.path = Some(pattern.clone()), &get(path))
}

fn field_matches(pattern: &FieldPattern, request: &Sent) -> bool {
    matches(|route| route.fields = vec![pattern.clone()], request)
}

#[test]
fn hosts() {
    assert!(host_matches("WWW.Example.com", Some("www.example.com")));
    assert!(!host_matches("www.example.com", Some("example.com")));
    assert!(!host_matches("www.example.com", None));
    assert!(host_matches("*.example.com", Some("a.example.com")));
    assert!(host_matches("*.Example.com", Some("a.b.example.com")));
    assert!(
        !host_matches("*.example.com", Some("example.com")),
        "not the suffix itself"
    );
    assert!(
        !host_matches("*.example.com", Some(".example.com")),
        "a name is not empty"
    );
    assert!(!host_matches("*.example.com", Some("badexample.com")));
    assert!(host_matches("[FD77:0::10]", Some("[fd77::10]")));
    assert!(host_matches("www.example.com.", Some("www.example.com")));
}

#[test]
fn hosts_that_make_no_sense_are_refused() {
    for host in [
        "",
        "*",
        "*.",
        "a.example:80",
        "a b",
        "*a.example",
        "a.*.example",
        "http://a",
        "[fd77",
        "[x]",
        "*..a",
    ] {
        let error = HostPattern::parse(host).unwrap_err().to_string();
        assert!(
            error.contains("write a name without port"),
            "{host}: {error}"
        );
    }
}

#[test]
fn a_parsed_head_is_a_request() {
    let head = b"GET http://A.example:80/x?v=2 HTTP/1.1\r\nHost: a.example\r\nCookie: id=7\r\n\r\n";
    let Ok(Parsed::Complete(head)) = RequestHead::parse(head) else {
        panic!("a valid head")
    };
    let route = Route {
        host: Some(HostPattern::parse("a.example").unwrap()),
        path: Some(PathPattern::exact("/x").unwrap()),
        method: Some(MethodPattern::parse(["GET"]).unwrap()),
        fields: vec![
            FieldPattern::cookie("id", Some("7")).unwrap(),
            FieldPattern::query("v", Some("2")).unwrap(),
            FieldPattern::header("HOST", Some("a.example")).unwrap(),
        ],
        ..Route::to(PoolId(1))
    };
    assert_eq!(
        Routes::new(vec![route], vec![None]).decide(0, &head),
        Some(PoolId(1))
    );
}

#[test]
fn paths() {
    let exact = PathPattern::exact("/a").unwrap();
    assert!(path_matches(&exact, "/a"));
    assert!(!path_matches(&exact, "/a/"));
    assert!(!path_matches(&exact, "/%61"), "as sent, not decoded");
    let prefix = PathPattern::prefix("/static/").unwrap();
    assert!(path_matches(&prefix, "/static/x"));
    assert!(!path_matches(&prefix, "/static"));
    assert!(!path_matches(&prefix, "/a/static/"));
    let regex = PathPattern::regex(r"\.(png|jpg)$").unwrap();
    assert!(path_matches(&regex, "/x/y.png"), "found anywhere");
    assert!(!path_matches(&regex, "/x.png/y"));
    assert!(path_matches(&PathPattern::exact("*").unwrap(), "*"));
}

#[test]
fn paths_that_make_no_sense_are_refused() {
    for path in ["", "a", "/a?b", "/a b", "http://a/", "/#x"] {
        PathPattern::exact(path).unwrap_err();
        PathPattern::prefix(path).unwrap_err();
    }
    PathPattern::regex("(").unwrap_err();
    PathPattern::regex(r"(\w{500}){500}").expect_err("too large once compiled");
}

#[test]
fn methods() {
    let pattern = MethodPattern::parse(["GET", "HEAD"]).unwrap();
    let of = |method| {
        matches(
            |route| route.method = Some(pattern.clone()),
            &Sent { method, ..get("/") },
        )
    };
    assert!(of("GET"));
    assert!(of("HEAD"));
    assert!(!of("POST"));
    assert!(!of("get"), "case-sensitive");
    MethodPattern::parse([]).unwrap_err();
    MethodPattern::parse(["GET POST"]).unwrap_err();
}

#[test]
fn headers() {
    let present = FieldPattern::header("X-Kind", None).unwrap();
    let is_a = FieldPattern::header("x-kind", Some("a")).unwrap();
    let with = |headers: &[(&'static str, &'static str)]| Sent {
        headers: headers.to_vec(),
        ..get("/")
    };
    assert!(field_matches(&present, &with(&[("x-KIND", "")])));
    assert!(!field_matches(&present, &with(&[("x-kin", "a")])));
    assert!(
        field_matches(&is_a, &with(&[("X-Kind", "b"), ("X-Kind", "a")])),
        "any line of the name"
    );
    assert!(
        !field_matches(&is_a, &with(&[("X-Kind", "A")])),
        "values are case-sensitive"
    );
    assert!(
        !field_matches(&is_a, &with(&[("X-Kind", "a, b")])),
        "a line has the value or not"
    );
    FieldPattern::header("X-Kind:", None).unwrap_err();
}

#[test]
fn cookies() {
    let with = |headers: &[(&'static str, &'static str)]| Sent {
        headers: headers.to_vec(),
        ..get("/")
    };
    let pattern = FieldPattern::cookie("id", Some("7")).unwrap();
    assert!(field_matches(&pattern, &with(&[("Cookie", "a=1; id=7")])));
    assert!(field_matches(
        &pattern,
        &with(&[("Cookie", "a=1"), ("cookie", "id=7")])
    ));
    assert!(!field_matches(
        &pattern,
        &with(&[("Cookie", "id=77; xid=7; ID=7")])
    ));
    assert!(field_matches(
        &FieldPattern::cookie("id", None).unwrap(),
        &with(&[("Cookie", "id=")])
    ));
    FieldPattern::cookie("a=b", None).unwrap_err();
}

#[test]
fn query_parameters() {
    let with = |query| Sent { query, ..get("/") };
    let pattern = FieldPattern::query("v", Some("2")).unwrap();
    assert!(field_matches(&pattern, &with(Some("a=1&v=2"))));
    assert!(
        !field_matches(&pattern, &with(Some("v=%32"))),
        "as sent, not decoded"
    );
    assert!(!field_matches(&pattern, &with(None)));
    assert!(field_matches(
        &FieldPattern::query("v", None).unwrap(),
        &with(Some("v"))
    ));
    FieldPattern::query("", None).unwrap_err();
    FieldPattern::query("a=b", None).unwrap_err();
}

fn pool(name: &str) -> Pool {
    let members = [Member {
        server: ServerId(0),
        weight: 1,
    }];
    Pool::new(
        name,
        Mechanism::Handoff,
        Policy::WeightedRoundRobin,
        members,
    )
    .unwrap()
}

#[test]
fn a_cluster_knows_every_pool_and_vip_that_it_names() {
    let cluster = |routes, defaults| Cluster::new(vec![pool("a")], Routes::new(routes, defaults));
    assert_eq!(
        cluster(vec![Route::to(PoolId(1))], vec![None]).unwrap_err(),
        ClusterError::NoSuchPool { pool: 1, pools: 1 }
    );
    assert_eq!(
        cluster(vec![], vec![Some(PoolId(2))]).unwrap_err(),
        ClusterError::NoSuchPool { pool: 2, pools: 1 }
    );
    let elsewhere = Route {
        vip: Some(1),
        ..Route::to(PoolId(0))
    };
    assert_eq!(
        cluster(vec![elsewhere], vec![None]).unwrap_err(),
        ClusterError::NoSuchVip { vip: 1, vips: 1 }
    );

    let cluster = cluster(vec![], vec![Some(PoolId(0)), None]).unwrap();
    assert_eq!(
        cluster.decide(0, &get("/")).map(|(_, pool)| pool.name()),
        Some("a")
    );
    assert!(cluster.decide(1, &get("/")).is_none(), "no default pool");
    assert!(cluster.decide(2, &get("/")).is_none(), "no such VIP");
}

/// One condition of each kind, small enough that random routes and requests often meet.
#[derive(Debug, Clone, Copy)]
struct Conditions {
    vip: Option<usize>,
    host: Option<&'static str>,
    prefix: Option<&'static str>,
    method: Option<&'static str>,
    cookie: Option<&'static str>,
}

impl Conditions {
    fn route(self, pool: usize) -> Route {
        Route {
            vip: self.vip,
            host: self.host.map(|host| HostPattern::parse(host).unwrap()),
            path: self
                .prefix
                .map(|prefix| PathPattern::prefix(prefix).unwrap()),
            method: self
                .method
                .map(|method| MethodPattern::parse([method]).unwrap()),
            fields: self
                .cookie
                .map(|value| FieldPattern::cookie("c", Some(value)).unwrap())
                .into_iter()
                .collect(),
            pool: PoolId(pool),
        }
    }

    /// The documentation's words, naively.
    fn hold(self, vip: usize, request: &Sent) -> bool {
        let cookie = |value| {
            request
                .headers
                .contains(&("cookie", if value == "1" { "c=1" } else { "c=2" }))
        };
        [
            self.vip.is_none_or(|only| only == vip),
            self.host.is_none_or(|host| request.host == Some(host)),
            self.prefix
                .is_none_or(|prefix| request.path.find(prefix) == Some(0)),
            self.method.is_none_or(|method| method == request.method),
            self.cookie.is_none_or(cookie),
        ]
        .iter()
        .all(|holds| *holds)
    }
}

fn maybe<T: Clone + std::fmt::Debug + 'static>(
    values: &'static [T],
) -> impl Strategy<Value = Option<T>> {
    prop::option::weighted(0.4, prop::sample::select(values))
}

prop_compose! {
    fn conditions()(
        vip in maybe(&[0, 1]),
        host in maybe(&["a.example", "b.example"]),
        prefix in maybe(&["/", "/a", "/a/b"]),
        method in maybe(&["GET", "PUT"]),
        cookie in maybe(&["1", "2"]),
    ) -> Conditions {
        Conditions { vip, host, prefix, method, cookie }
    }
}

prop_compose! {
    fn request()(
        host in maybe(&["a.example", "b.example", "c.example"]),
        path in prop::sample::select(vec!["/", "/a", "/a/b/c", "/b"]),
        method in prop::sample::select(vec!["GET", "PUT"]),
        cookie in maybe(&["c=1", "c=2"]),
    ) -> Sent {
        let headers = cookie.map(|cookie| ("cookie", cookie)).into_iter().collect();
        Sent { method, host, path, query: None, headers }
    }
}

proptest! {
    #[test]
    fn the_first_route_that_matches_wins(
        conditions in prop::collection::vec(conditions(), 0..8),
        vip in 0usize..2,
        request in request(),
    ) {
        let routes = conditions.iter().enumerate().map(|(at, route)| route.route(at)).collect();
        let default = PoolId(100);
        let decided = Routes::new(routes, vec![Some(default), None]).decide(vip, &request);
        let first = conditions.iter().position(|route| route.hold(vip, &request)).map(PoolId);
        prop_assert_eq!(decided, first.or((vip == 0).then_some(default)));
    }
}
