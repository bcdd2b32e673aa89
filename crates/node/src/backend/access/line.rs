//! A line of the log, in the formats that there are.

use std::fmt;
use std::time::Duration;

use baton_kernel::Answered;
use baton_packet::{FlowKey, RequestHead};
use serde::Serialize;

use crate::config::AccessLogFormat;

/// Bytes of a field of a request that are kept.
const MOST: usize = 8192;

/// A request and its answer.
pub(super) struct Line {
    pub(super) key: FlowKey,
    /// When the request was complete.
    pub(super) at: Duration,
    pub(super) request: Request,
    pub(super) answered: Answered,
}

/// What of a request stands in the log, as it was sent.
#[derive(Debug)]
pub(super) struct Request {
    line: Vec<u8>,
    host: Vec<u8>,
    referer: Vec<u8>,
    user_agent: Vec<u8>,
}

impl Request {
    pub(super) fn new(bytes: &[u8], head: &RequestHead) -> Request {
        let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
        let line = bytes.split(|byte| *byte == b'\r').next();
        let field = |name| kept(head.header_values(name).next().unwrap_or_default());
        Request {
            line: kept(line.unwrap_or_default()),
            host: field("host"),
            referer: field("referer"),
            user_agent: field("user-agent"),
        }
    }

    /// Memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.line.len()
            + self.host.len()
            + self.referer.len()
            + self.user_agent.len()
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.line))
    }
}

fn kept(field: &[u8]) -> Vec<u8> {
    field[..field.len().min(MOST)].to_vec()
}

impl Line {
    /// Appends itself to `text`. `epoch` is the Unix time at which the kernel's clock was 0.
    pub(super) fn write(&self, format: AccessLogFormat, epoch: Duration, text: &mut Vec<u8>) {
        match format {
            AccessLogFormat::Combined => self.combined(epoch, text),
            AccessLogFormat::Json => self.json(epoch, text),
        }
        text.push(b'\n');
    }

    /// As Apache httpd and nginx write it.
    fn combined(&self, epoch: Duration, text: &mut Vec<u8>) {
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let t = Time::of(epoch + self.at);
        let client = self.key.client().ip();
        let month = MONTHS[usize::from(t.month - 1)];
        let (day, year, hour, minute, second) = (t.day, t.year, t.hour, t.minute, t.second);
        let time = format!("{day:02}/{month}/{year}:{hour:02}:{minute:02}:{second:02} +0000");
        text.extend_from_slice(format!("{client} - - [{time}] \"").as_bytes());
        escape(&self.request.line, text);
        let (status, bytes) = (self.answered.status.unwrap_or(0), self.answered.bytes);
        text.extend_from_slice(format!("\" {status:03} {bytes}").as_bytes());
        for field in [&self.request.referer, &self.request.user_agent] {
            text.extend_from_slice(b" \"");
            escape(if field.is_empty() { b"-" } else { field }, text);
            text.push(b'"');
        }
    }

    fn json(&self, epoch: Duration, text: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Object<'a> {
            time: String,
            client: String,
            vip: String,
            host: &'a str,
            request: &'a str,
            status: u16,
            body_bytes: u64,
            first_byte_ms: Option<f64>,
            duration_ms: f64,
            referer: &'a str,
            user_agent: &'a str,
        }
        let t = Time::of(epoch + self.at);
        let ms = |until: Duration| until.saturating_sub(self.at).as_micros() as f64 / 1000.0;
        let request = &self.request;
        let fields = [
            &request.line,
            &request.host,
            &request.referer,
            &request.user_agent,
        ];
        let [line, host, referer, user_agent] = fields.map(|field| String::from_utf8_lossy(field));
        let object = Object {
            time: format!(
                "{}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
                t.year, t.month, t.day, t.hour, t.minute, t.second, t.milliseconds
            ),
            client: self.key.client().to_string(),
            vip: self.key.vip().to_string(),
            host: &host,
            request: &line,
            status: self.answered.status.unwrap_or(0),
            body_bytes: self.answered.bytes,
            first_byte_ms: self.answered.head.map(ms),
            duration_ms: ms(self.answered.end),
            referer: &referer,
            user_agent: &user_agent,
        };
        // Texts and numbers: nothing that cannot be written.
        let _ = serde_json::to_writer(text, &object);
    }
}

/// What could end a field or is no ASCII text becomes \xHH, as nginx writes it.
fn escape(field: &[u8], text: &mut Vec<u8>) {
    for byte in field {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => {
                text.extend_from_slice(format!("\\x{byte:02X}").as_bytes())
            }
            _ => text.push(*byte),
        }
    }
}

/// A moment in UTC.
struct Time {
    year: u64,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    milliseconds: u16,
}

impl Time {
    /// Of Unix time; the proleptic Gregorian calendar in years that begin in March, so that the day that is sometimes there is the last.
    fn of(unix: Duration) -> Time {
        const DAYS_BEFORE_1970: u64 = 719_468; // since 0000-03-01
        const DAYS_OF_400_YEARS: u64 = 146_097;
        let (seconds, days) = (
            unix.as_secs() % 86_400,
            unix.as_secs() / 86_400 + DAYS_BEFORE_1970,
        );
        let day = days % DAYS_OF_400_YEARS;
        let year_of_400 = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year_of_400 + year_of_400 / 4 - year_of_400 / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = (month_from_march + 2) % 12 + 1;
        Time {
            year: days / DAYS_OF_400_YEARS * 400 + year_of_400 + u64::from(month <= 2),
            month: month as u8,
            day: (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u8,
            hour: (seconds / 3600) as u8,
            minute: (seconds / 60 % 60) as u8,
            second: (seconds % 60) as u8,
            milliseconds: unix.subsec_millis() as u16,
        }
    }
}

#[cfg(test)]
mod tests {
    use baton_packet::Parsed;

    use super::*;

    fn line() -> Line {
        let bytes =
            b"\r\nGET /a\xc3\xa4?q=%22 HTTP/1.1\r\nHost: x\r\nUser-Agent: \"odd\" \\ one\r\n\r\n";
        let Ok(Parsed::Complete(head)) = RequestHead::parse(bytes) else {
            panic!()
        };
        Line {
            key: FlowKey::new(
                "[2001:db8::7]:4000".parse().unwrap(),
                "[fd77::10]:80".parse().unwrap(),
            ),
            at: Duration::from_millis(1_500),
            request: Request::new(&bytes[..head.head_len], &head),
            answered: Answered {
                flow: 1,
                number: 1,
                status: Some(206),
                bytes: 5_000_000_000,
                head: Some(Duration::from_micros(1_502_250)),
                end: Duration::from_millis(2_500),
            },
        }
    }

    fn text(format: AccessLogFormat, line: &Line) -> String {
        let mut text = Vec::new();
        line.write(format, Duration::from_secs(951_782_398), &mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn combined_is_what_web_servers_write() {
        assert_eq!(
            text(AccessLogFormat::Combined, &line()),
            "2001:db8::7 - - [28/Feb/2000:23:59:59 +0000] \"GET /a\\xC3\\xA4?q=%22 HTTP/1.1\" 206 5000000000 \"-\" \"\\x22odd\\x22 \\x5C one\"\n"
        );
        let mut unanswered = line();
        unanswered.answered.status = None;
        unanswered.answered.bytes = 0;
        let text = text(AccessLogFormat::Combined, &unanswered);
        assert!(text.contains("\" 000 0 \""), "{text}");
    }

    #[test]
    fn json_is_an_object_a_line() {
        let text = text(AccessLogFormat::Json, &line());
        assert_eq!(text.matches('\n').count(), 1);
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "time": "2000-02-28T23:59:59.500Z", "client": "[2001:db8::7]:4000", "vip": "[fd77::10]:80", "host": "x",
            "request": "GET /aä?q=%22 HTTP/1.1", "status": 206, "body_bytes": 5_000_000_000_u64, "first_byte_ms": 2.25,
            "duration_ms": 1000.0, "referer": "", "user_agent": "\"odd\" \\ one",
        });
        assert_eq!(object, expected);
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (unix, year, month, day) in [
            (0, 1970, 1, 1),
            (951_782_400, 2000, 2, 29),
            (951_868_800, 2000, 3, 1),
            (1_767_225_599, 2025, 12, 31),
            (4_107_542_400, 2100, 3, 1),
        ] {
            let t = Time::of(Duration::from_secs(unix));
            assert_eq!((t.year, t.month, t.day), (year, month, day), "{unix}");
        }
    }
}
