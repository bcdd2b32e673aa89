//! A web server that says who it is.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Answers every request with `name`, as long as the test runs.
pub(crate) fn origin(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream, name));
        }
    });
    address
}

/// Heads without bodies, until the client closes.
fn serve(stream: TcpStream, name: &str) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut in_head = false;
    for line in BufReader::new(stream).lines() {
        let end = line.ok()?.is_empty();
        if end && in_head {
            write!(
                writer,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}",
                name.len()
            )
            .ok()?;
        }
        in_head = !end;
    }
    Some(())
}
