//! What single values mean: each function parses one kind, or records why it cannot.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::reader::Item;

/// Text that is not empty.
pub(super) fn text<'a>(item: &Item<'a>) -> Option<&'a str> {
    match any_text(item)? {
        "" => item.wrong(
            "the text is empty",
            "write something between the quotes, or leave the key out",
        ),
        text if text.contains(char::is_control) => {
            item.wrong("the text has a control character", "remove it")
        }
        text => Some(text),
    }
}

/// Text that may be empty.
pub(super) fn any_text<'a>(item: &Item<'a>) -> Option<&'a str> {
    match item.value() {
        DeValue::String(text) => Some(text),
        _ => item.not("a text", "write a text in quotes"),
    }
}

/// Text that the configuration keeps.
pub(super) fn string(item: &Item<'_>) -> Option<String> {
    text(item).map(str::to_owned)
}

/// `true` or `false`.
pub(super) fn boolean(item: &Item<'_>) -> Option<bool> {
    match item.value() {
        DeValue::Boolean(value) => Some(*value),
        _ => item.not("true or false", "write true or false, without quotes"),
    }
}

/// An integer within bounds.
pub(super) fn integer<T>(bounds: RangeInclusive<T>) -> impl Fn(&Item<'_>) -> Option<T>
where
    T: Copy + PartialOrd + std::fmt::Display + TryFrom<i64>,
{
    move |item| {
        let (least, most) = (bounds.start(), bounds.end());
        let number = match item.value() {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) if bounds.contains(&number) => Some(number),
            _ => {
                let kind = format!("an integer from {least} to {most}");
                item.not(&kind, format!("write {kind}, without quotes"))
            }
        }
    }
}

/// A time in milliseconds: from 1 ms to a day.
pub(super) fn milliseconds(item: &Item<'_>) -> Option<Duration> {
    integer(1..=86_400_000)(item).map(Duration::from_millis)
}

/// A time in seconds: from 1 s to a year.
pub(super) fn seconds(item: &Item<'_>) -> Option<Duration> {
    integer(1..=31_536_000)(item).map(Duration::from_secs)
}

/// One of the names in `choices`.
pub(super) fn one_of<T: Copy>(choices: &[(&'static str, T)]) -> impl Fn(&Item<'_>) -> Option<T> {
    move |item| {
        let chosen = item.value().as_str();
        let found = choices.iter().find(|(name, _)| Some(*name) == chosen);
        if let Some((_, choice)) = found {
            return Some(*choice);
        }
        let names: Vec<_> = choices
            .iter()
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        item.not("known here", format!("write one of {}", names.join(", ")))
    }
}

/// An IP address that names one host, without a port.
pub(super) fn ip_address(item: &Item<'_>) -> Option<IpAddr> {
    match item
        .value()
        .as_str()
        .and_then(|text| text.parse::<IpAddr>().ok())
    {
        Some(ip) if !ip.is_unspecified() && usual(ip) => Some(ip),
        _ => item.not(
            "the IP address of one host, without port",
            "write an address such as \"10.77.0.21\" or \"fd77::21\"",
        ),
    }
}

/// An IP address with a port.
pub(super) fn socket_address(item: &Item<'_>) -> Option<SocketAddr> {
    match item
        .value()
        .as_str()
        .and_then(|text| text.parse::<SocketAddr>().ok())
    {
        Some(address) if address.port() != 0 && usual(address.ip()) => Some(address),
        _ => item.not(
            "an IP address with a port",
            "write an address and port such as \"10.77.0.10:80\" or \"[fd77::10]:80\"",
        ),
    }
}

/// Neither multicast nor an IPv4 address in the clothes of IPv6.
fn usual(ip: IpAddr) -> bool {
    !ip.is_multicast() && ip == ip.to_canonical()
}

/// A list, every element by `read`; not empty.
pub(super) fn list<'a, T>(
    item: &Item<'a>,
    example: &str,
    mut read: impl FnMut(&Item<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut elements = Vec::new();
    for element in item.elements(example)? {
        elements.push(read(&element));
    }
    if elements.is_empty() {
        return item.wrong(
            "the list is empty",
            format!("give at least one, for example [{example}]"),
        );
    }
    elements.into_iter().collect()
}
