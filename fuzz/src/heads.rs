//! Request heads: what is accepted is read the same by everybody, also in pieces.

use baton_packet::{BodyLength, Parsed, RequestHead, Version};

/// More is tried in fewer pieces.
const WHOLE: usize = 600;

/// Any bytes.
pub fn run(data: &[u8]) {
    let verdict = RequestHead::parse(data);
    if let Ok(Parsed::Complete(head)) = &verdict {
        let own = &data[..head.head_len];
        assert_eq!(RequestHead::parse(own), verdict, "without what follows");
        let followed = [own, b"\0\r\nX: y\r\n\r\n"].concat();
        assert_eq!(RequestHead::parse(&followed), verdict, "whatever follows");
        agrees_with_httparse(own, head);
        agrees_with_a_lenient_reader(own, head);
    }
    is_final(data);
}

/// What arrives in pieces is read as if it had come at once: partial until the verdict, which then stays.
fn is_final(data: &[u8]) {
    let step = data.len() / WHOLE + 1;
    let mut last = Ok(Parsed::Partial);
    for end in (0..data.len()).step_by(step).chain([data.len()]) {
        let next = RequestHead::parse(&data[..end]);
        match &last {
            Ok(Parsed::Partial) => {}
            Err(_) => assert!(next.is_err(), "refused, and then taken at {end}: {next:?}"),
            complete => assert_eq!(&next, complete, "another head at {end}"),
        }
        last = next;
    }
}

fn agrees_with_httparse(own: &[u8], head: &RequestHead) {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    assert_eq!(
        request.parse(own),
        Ok(httparse::Status::Complete(head.head_len))
    );
    assert_eq!(request.method, Some(head.method.as_str()));
    assert_eq!(request.version == Some(1), head.version == Version::Http11);
    let target = request.path.unwrap();
    let query = head
        .query
        .as_ref()
        .map_or(String::new(), |query| format!("?{query}"));
    if head.method == "CONNECT" {
        assert_eq!((head.path.as_str(), query.as_str()), ("", ""));
    } else if target.starts_with(['/', '*']) {
        assert_eq!(target, format!("{}{query}", head.path));
    } else {
        let authority_and_path = target.split_once("://").unwrap().1;
        let path = if head.path == "/" { "" } else { &head.path };
        assert!(authority_and_path.ends_with(&query));
        assert!(authority_and_path.contains(path));
    }
    for field in request.headers.iter() {
        let same = request
            .headers
            .iter()
            .filter(|other| other.name.eq_ignore_ascii_case(field.name))
            .map(|other| other.value);
        assert!(head.header_values(field.name).eq(same), "{}", field.name);
    }
}

/// The most forgiving reader that one can think of finds no other host, no other length and no other end. It takes CR
/// and LF alone for line ends, space around names for nothing, and a folded line for a field of its own.
fn agrees_with_a_lenient_reader(own: &[u8], head: &RequestHead) {
    let text = own.trim_ascii_start();
    let mut lines = text
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .filter(|line| !line.is_empty());
    let request_line = lines.next().unwrap();
    let words: Vec<_> = request_line
        .split(|byte| byte.is_ascii_whitespace() || *byte == 0x0b)
        .filter(|word| !word.is_empty())
        .collect();
    assert_eq!(words.len(), 3, "three words, however they are told apart");
    assert_eq!(words[0], head.method.as_bytes());

    let fields: Vec<(String, &[u8])> = lines
        .map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').unwrap();
            let name = line[..colon].trim_ascii().to_ascii_lowercase();
            let value = line[colon + 1..].trim_ascii();
            (String::from_utf8(name).unwrap(), value)
        })
        .collect();
    let values = |name: &str| -> Vec<&[u8]> {
        let of_name = fields.iter().filter(|(field, _)| field == name);
        of_name.map(|(_, value)| *value).collect()
    };
    let (lengths, encodings) = (values("content-length"), values("transfer-encoding"));
    assert!(lengths.len() + encodings.len() <= 1, "two lengths");
    let length = match (lengths.first(), encodings.first()) {
        (Some(digits), _) => {
            assert!(digits.iter().all(u8::is_ascii_digit), "a number only");
            let digits = std::str::from_utf8(digits).unwrap();
            BodyLength::Length(digits.parse().unwrap())
        }
        (None, Some(coding)) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked"));
            assert_eq!(head.version, Version::Http11);
            BodyLength::Chunked
        }
        (None, None) => BodyLength::Length(0),
    };
    if head.body == BodyLength::Tunnel {
        let asks = !values("upgrade").is_empty() && !values("connection").is_empty();
        assert!(head.method == "CONNECT" || asks, "no reason for a tunnel");
    } else {
        assert_eq!(head.body, length);
        assert_ne!(head.method, "CONNECT");
    }

    let hosts = values("host");
    assert!(hosts.len() <= 1, "two hosts");
    assert!(head.host.is_some() || hosts.is_empty());
    if let (Some(host), Some(field)) = (&head.host, hosts.first()) {
        let field = std::str::from_utf8(field).unwrap().to_ascii_lowercase();
        let name = field.split(':').next().unwrap_or_default();
        let name = name.strip_suffix('.').unwrap_or(name);
        assert!(host == name || host.starts_with('['), "{host}: {field}");
    }
}
