//! [`ReceivedBytes`]: whether the next request of a connection has begun.

/// The end of a head, and that of a body in chunks.
const EMPTY_LINE: [u8; 4] = *b"\r\n\r\n";

/// The bytes that a connection received, as far as they tell whether another request follows the present one.
///
/// hyper reads all available bytes: its buffer can have the first bytes of the next request before the present one is
/// answered, and hyper does not report this. This type therefore searches for the end of each head. Where the end is
/// unknown, such as for a body that follows a head in the buffer of hyper, it assumes that another request has begun,
/// because the deadline of heads is the shorter one.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReceivedBytes {
    head: HeadScan,
    /// The number of bytes after the head.
    after_head: u64,
    /// The last bytes.
    tail: [u8; 4],
}

/// The received part of the head of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeadScan {
    /// At most empty lines, which may precede a request.
    Nothing,
    /// The last line is not complete.
    Line,
    /// The last line is complete. An empty line ends the head.
    CompleteLine,
    /// A line begins with a carriage return.
    CarriageReturn,
    /// The head is complete.
    Complete,
    /// The head began in the buffer of hyper.
    Unknown,
}

impl ReceivedBytes {
    pub(super) const fn new() -> Self {
        Self { head: HeadScan::Nothing, after_head: 0, tail: [0; 4] }
    }

    /// Adds bytes that arrived.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let count = bytes.len().min(self.tail.len());
        self.tail.rotate_left(count);
        let (kept, added) = (self.tail.len() - count, bytes.len() - count);
        self.tail[kept..].copy_from_slice(&bytes[added..]);
        let rest = self.head.scan(bytes);
        if self.head == HeadScan::Complete {
            self.after_head = self.after_head.saturating_add(rest as u64);
        }
    }

    /// Returns whether a request has begun after the present one, whose body has this length; `None` for a body in
    /// chunks.
    pub(super) fn has_next_request(&self, body_length: Option<u64>) -> bool {
        match body_length {
            Some(0) | None => self.tail != EMPTY_LINE,
            Some(length) => self.head != HeadScan::Complete || self.after_head > length,
        }
    }

    /// Begins the search for the next head.
    pub(super) const fn end_request(&mut self, has_next_request: bool) {
        self.head = if has_next_request { HeadScan::Unknown } else { HeadScan::Nothing };
        self.after_head = 0;
    }
}

impl HeadScan {
    /// Searches for the end of the head. Returns the number of bytes after it, or 0 if it is not in these bytes.
    fn scan(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !matches!(self, Self::Complete | Self::Unknown) {
            if *self == Self::Line {
                let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return 0 };
                (*self, rest) = (Self::CompleteLine, &rest[end + 1..]);
            }
            let Some((byte, next)) = rest.split_first() else { return 0 };
            (*self, rest) = (self.after(*byte), next);
        }
        rest.len()
    }

    /// Returns the state after the first bytes of a line.
    const fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Nothing, b'\r' | b'\n') => Self::Nothing,
            (Self::CompleteLine | Self::CarriageReturn, b'\n') => Self::Complete,
            (Self::CompleteLine, b'\r') => Self::CarriageReturn,
            _ => Self::Line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether a request follows, for each way to split the bytes in two reads.
    fn next_request_follows(bytes: &str, body_length: Option<u64>) -> bool {
        let follows = |split: usize| {
            let mut received = ReceivedBytes::new();
            received.add(&bytes.as_bytes()[..split]);
            received.add(&bytes.as_bytes()[split..]);
            received.has_next_request(body_length)
        };
        let first = follows(0);
        assert!((0..=bytes.len()).all(|split| follows(split) == first), "{bytes:?}");
        first
    }

    #[test]
    fn another_request_follows_if_bytes_are_after_the_present_one() {
        let (get, post) = ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\nContent-Length: 4\n\n");
        for (present, body_length) in [
            (get.to_owned(), Some(0)),
            (format!("\r\n{get}"), Some(0)),
            (format!("{post}\r\n\r\n"), Some(4)),
            (format!("{post}1234"), Some(4)),
            (format!("{get}4\r\n\r\n\r\n\r\n0\r\n\r\n"), None),
        ] {
            assert!(!next_request_follows(&present, body_length), "{present:?}");
            assert!(!next_request_follows(&format!("{present}{get}"), body_length) || body_length == Some(4));
            for next in ["G", "GET / HTTP/1.1\r\n"] {
                assert!(next_request_follows(&format!("{present}{next}"), body_length), "{present:?} {next:?}");
            }
        }
        let mut received = ReceivedBytes::new();
        received.add(format!("{get}{post}12").as_bytes());
        assert!(received.has_next_request(Some(0)));
        received.end_request(true);
        received.add(b"34");
        assert!(received.has_next_request(Some(4)), "the length of the head is not known");
        received.end_request(false);
        received.add(format!("{post}1234").as_bytes());
        assert!(!received.has_next_request(Some(4)));
    }
}
