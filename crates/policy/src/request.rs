//! What a decision reads of a request.

/// A parsed request head, as far as routes look at it.
///
/// Every implementation must read the same bytes alike, or the proxy and the relay would disagree on where a request
/// goes: the host of an absolute-form target wins over the `Host` header (RFC 9112, 3.2.2), and path and query are as
/// the client sent them, not decoded.
pub trait Request {
    /// The method, case-sensitive.
    fn method(&self) -> &str;

    /// The host in lower case, without port (see [`host_of_authority`]); `None` when the request names none.
    fn host(&self) -> Option<&str>;

    /// The path without the query.
    fn path(&self) -> &str;

    /// What follows the `?`; `None` without one.
    fn query(&self) -> Option<&str>;

    /// The values of the header lines called `name` (any case), in order, without surrounding white space.
    fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a;
}

/// The host part of `host[:port]`; the brackets of an IPv6 literal stay.
pub fn host_of_authority(authority: &str) -> &str {
    let port = match authority.rfind(']') {
        Some(bracket) => authority[bracket..].find(':').map(|at| bracket + at),
        None => authority.find(':'),
    };
    &authority[..port.unwrap_or(authority.len())]
}

#[cfg(test)]
mod tests {
    use super::host_of_authority;

    #[test]
    fn a_port_is_no_part_of_the_host() {
        for (authority, host) in [
            ("a.example", "a.example"),
            ("a.example:80", "a.example"),
            ("a.example:", "a.example"),
            ("[fd77::10]:80", "[fd77::10]"),
            ("[fd77::10]", "[fd77::10]"),
            ("", ""),
        ] {
            assert_eq!(host_of_authority(authority), host, "{authority}");
        }
    }
}
