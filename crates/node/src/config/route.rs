//! `[[route]]`: which requests go to which pool.

use baton_policy::{
    FieldPattern, HostPattern, MethodPattern, PathPattern, PatternError, PoolId, Route,
};
use toml::de::DeValue;

use super::outline::Outline;
use super::reader::{Item, Section};
use super::values::{any_text, list, text};

type PathParser = fn(&str) -> Result<PathPattern, PatternError>;
type FieldParser = fn(&str, Option<&str>) -> Result<FieldPattern, PatternError>;

const PATHS: [(&str, PathParser); 3] = [
    ("path", PathPattern::exact),
    ("path_prefix", PathPattern::prefix),
    ("path_regex", PathPattern::regex),
];

const FIELDS: [(&str, FieldParser); 3] = [
    ("header", FieldPattern::header),
    ("cookie", FieldPattern::cookie),
    ("query", FieldPattern::query),
];

pub(super) fn read(mut section: Section<'_>, outline: &Outline<'_>) -> Option<Route> {
    let vip = section.optional("vip", |item| outline.vips.resolve(item));
    let host = section.optional("host", |item| {
        accepted(item, HostPattern::parse(text(item)?))
    });
    let mut paths = Vec::new();
    for (key, parse) in PATHS {
        if let Some(item) = section.item(key) {
            paths.push((key, path(&item, parse), item));
        }
    }
    if let [(first, ..), rest @ ..] = &paths[..] {
        for (.., item) in rest {
            item.wrong::<()>(
                format_args!("the route has \"{first}\" already"),
                "of path, path_prefix and path_regex a route has at most one: keep one, or make two routes",
            );
        }
    }
    let method = section.optional("method", method);
    let mut fields = Vec::new();
    for (key, parse) in FIELDS {
        fields.extend(section.optional(key, |item| field(item, key, parse)));
    }
    let pool = section.required("pool", "\"pages\"", |item| outline.pools.resolve(item));
    Some(Route {
        vip,
        host,
        path: paths.into_iter().find_map(|(_, path, _)| path),
        method,
        fields,
        pool: PoolId(pool?),
    })
}

fn path(item: &Item<'_>, parse: PathParser) -> Option<PathPattern> {
    accepted(item, parse(text(item)?))
}

/// One method, or a list of them.
fn method(item: &Item<'_>) -> Option<MethodPattern> {
    let methods = match item.value() {
        DeValue::Array(_) => list(item, "\"GET\"", text)?,
        _ => vec![text(item)?],
    };
    accepted(item, MethodPattern::parse(methods))
}

/// `{ name = "...", value = "..." }`.
fn field(item: &Item<'_>, key: &str, parse: FieldParser) -> Option<FieldPattern> {
    let Some(mut table) = item.section(format!("\"{key}\" of {}", item.place())) else {
        return item.not(
            "a table",
            "write { name = \"...\", value = \"...\" }, or without value for any",
        );
    };
    let name = table.required("name", "\"...\"", text);
    let value = table.optional("value", any_text);
    accepted(item, parse(name?, value))
}

fn accepted<T>(item: &Item<'_>, parsed: Result<T, PatternError>) -> Option<T> {
    match parsed {
        Ok(value) => Some(value),
        Err(error) => item.wrong("not a usable condition", error.to_string()),
    }
}
