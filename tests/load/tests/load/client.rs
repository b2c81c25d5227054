//! [`Client`]: a connection that sends prepared requests and reads responses in large pieces.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(1024) })
    }

    /// Sends a request, and returns the status of the response and its body.
    ///
    /// # Errors
    /// If the connection ends before the response.
    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<(u16, String)> {
        self.stream.write_all(request).await?;
        let end_of_head = self.find(b"\r\n\r\n", 0).await? + 4;
        let head = String::from_utf8_lossy(&self.buffer[..end_of_head]).into_owned();
        let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default();
        let mut headers = head.lines().filter_map(|line| line.split_once(": "));
        let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.map_or(0, |(_, length)| length.trim().parse().unwrap_or_default());
        while self.buffer.len() < end_of_head + length {
            self.read().await?;
        }
        let body = String::from_utf8_lossy(&self.buffer[end_of_head..end_of_head + length]).into_owned();
        self.buffer.drain(..end_of_head + length);
        Ok((status, body))
    }

    /// Reads until these bytes arrive after `start`, and returns their index.
    pub(crate) async fn find(&mut self, bytes: &[u8], start: usize) -> io::Result<usize> {
        loop {
            let mut windows = self.buffer.get(start..).unwrap_or_default().windows(bytes.len());
            if let Some(index) = windows.position(|window| window == bytes) {
                return Ok(start + index);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Returns a request of the client with the token `writer`.
pub(crate) fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let headers = "Host: a\r\nAuthorization: Bearer writer\r\nContent-Type: application/json";
    format!("{method} {path} HTTP/1.1\r\n{headers}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}
