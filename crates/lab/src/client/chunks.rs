//! A body in chunks (RFC 9112 7.1), read as it comes.

use std::io::{self, BufRead, Read};

/// The data of the chunks. What follows the last one and its trailer is not touched.
pub(crate) struct Chunks<'a, R> {
    input: &'a mut R,
    /// Of the present chunk.
    left: u64,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Size,
    Data,
    Ended,
}

impl<'a, R: BufRead> Chunks<'a, R> {
    pub(crate) fn new(input: &'a mut R) -> Self {
        Self {
            input,
            left: 0,
            state: State::Size,
        }
    }

    fn size(&mut self) -> io::Result<()> {
        let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, "not the size of a chunk");
        let line = self.line()?;
        let size = line.split(';').next().unwrap_or_default().trim();
        self.left = u64::from_str_radix(size, 16).map_err(wrong)?;
        self.state = State::Data;
        if self.left == 0 {
            while !self.line()?.is_empty() {}
            self.state = State::Ended;
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.input.by_ref().take(4096).read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl<R: BufRead> Read for Chunks<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.state == State::Size {
            self.size()?;
        }
        if self.state == State::Ended || into.is_empty() {
            return Ok(0);
        }
        let read = self.input.by_ref().take(self.left).read(into)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        if self.left == 0 {
            self.line()?;
            self.state = State::Size;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_without_sizes_and_nothing_beyond() {
        let mut input =
            &b"3;x=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: yes\r\n\r\nHTTP/1.1 200 OK"[..];
        let mut data = String::new();
        Chunks::new(&mut input).read_to_string(&mut data).unwrap();
        assert_eq!(
            (data.as_str(), input),
            ("abc0123456789", &b"HTTP/1.1 200 OK"[..])
        );
    }

    #[test]
    fn what_is_cut_is_an_error() {
        for cut in ["3\r\nab", "3\r\nabc\r\n", "3\r\nabc\r\n0\r\n", "x\r\n"] {
            let mut input = cut.as_bytes();
            let read = Chunks::new(&mut input).read_to_end(&mut Vec::new());
            assert!(read.is_err(), "{cut:?}");
        }
    }
}
