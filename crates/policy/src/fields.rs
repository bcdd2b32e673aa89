//! Cookies and query parameters: pairs of a name and a value in one string of bytes.

/// The cookies of one `Cookie` line (RFC 6265, 4.2.1), as sent: quotes stay.
pub(crate) fn cookies(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|&byte| byte == b';')
        .map(|cookie| pair(cookie.trim_ascii()))
}

/// The parameters of a query, as sent: nothing is decoded.
pub(crate) fn parameters(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query.split(|&byte| byte == b'&').map(pair)
}

/// `name=value`; a name alone has the empty value.
fn pair(field: &[u8]) -> (&[u8], &[u8]) {
    match field.iter().position(|&byte| byte == b'=') {
        Some(at) => (&field[..at], &field[at + 1..]),
        None => (field, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::{cookies, parameters};

    fn pairs<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<String> {
        pairs
            .map(|(name, value)| {
                format!(
                    "{}={}",
                    String::from_utf8_lossy(name),
                    String::from_utf8_lossy(value)
                )
            })
            .collect()
    }

    #[test]
    fn cookies_are_separated_by_semicolons() {
        assert_eq!(
            pairs(cookies(b"a=1; b=x=y;c ; d=\"q\"")),
            ["a=1", "b=x=y", "c=", "d=\"q\""]
        );
    }

    #[test]
    fn parameters_are_separated_by_ampersands_and_not_decoded() {
        assert_eq!(
            pairs(parameters(b"a=%31&b&c=x;y=z&")),
            ["a=%31", "b=", "c=x;y=z", "="]
        );
    }
}
