//! [`Header`]: the header of a frame, and its payload.

use std::io::Read;

use bytes::Bytes;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::wire::error::{DecodeError, EncodeError};

/// The version of the protocol. Nodes of another version are refused.
pub(crate) const VERSION: u16 = 4;
/// The length of a header, in bytes.
pub(crate) const HEADER_BYTES: usize = 16;

const MAGIC: [u8; 4] = *b"ESRP";
const COMPRESSED: u8 = 1;
/// The length of the part of a header that the checksum covers, in bytes.
const CHECKED_BYTES: usize = 12;
/// The length from which a page is compressed, in bytes. A shorter one does not repay the work.
const MIN_COMPRESSED_BYTES: usize = 4 * 1024;
/// The maximum window of a compressed payload, in bytes. The encoder uses less, and the decoder allocates it at once.
const MAX_WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Hello = 1,
    HelloAnswer = 2,
    Pull = 3,
    Page = 4,
    Confirm = 5,
    Confirmation = 6,
    Error = 7,
    Heartbeat = 8,
    Command = 9,
    CommandAnswer = 10,
    AskHomes = 11,
    Homes = 12,
    AskKey = 13,
    Key = 14,
}

impl Kind {
    pub(super) const ALL: [Self; 14] = [
        Self::Hello,
        Self::HelloAnswer,
        Self::Pull,
        Self::Page,
        Self::Confirm,
        Self::Confirmation,
        Self::Error,
        Self::Heartbeat,
        Self::Command,
        Self::CommandAnswer,
        Self::AskHomes,
        Self::Homes,
        Self::AskKey,
        Self::Key,
    ];
    /// The first message of a client.
    pub(crate) const FIRST: &[Self] = &[Self::Hello];
    /// The answer of a server to it.
    pub(crate) const FIRST_ANSWER: &[Self] = &[Self::HelloAnswer, Self::Error];
    pub(crate) const REQUESTS: &[Self] = &[Self::Pull, Self::Confirm, Self::Command, Self::AskHomes, Self::AskKey];
    pub(crate) const ANSWERS: &[Self] =
        &[Self::Page, Self::Confirmation, Self::CommandAnswer, Self::Homes, Self::Key, Self::Heartbeat, Self::Error];

    /// Returns the maximum length of a payload, in bytes, if the kind has a lower one than other kinds.
    pub(super) const fn max_bytes(self) -> u32 {
        match self {
            // The names of a node and of a subject, and the id of a key.
            Self::AskKey => 1024,
            // One key.
            Self::Key => 64,
            _ => u32::MAX,
        }
    }
}

/// The decoded header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    is_compressed: bool,
    length: u32,
    checksum: u32,
    /// The checksum of the header without its checksum.
    header_checksum: u32,
}

impl Header {
    /// Decodes a header. The length of its payload is at most `max_bytes`, and at most that of its kind.
    pub(crate) fn decode(bytes: [u8; HEADER_BYTES], max_bytes: u32) -> Result<Self, DecodeError> {
        let [a, b, c, d, version_low, version_high, kind, flags, lengths @ ..] = bytes;
        let [l0, l1, l2, l3, checksum @ ..] = lengths;
        if [a, b, c, d] != MAGIC {
            return Err(DecodeError::Magic);
        }
        let version = u16::from_le_bytes([version_low, version_high]);
        if version != VERSION {
            return Err(DecodeError::Version { expected: VERSION, found: version });
        }
        let found = Kind::ALL.into_iter().find(|known| *known as u8 == kind);
        let kind = found.ok_or(DecodeError::Kind(kind))?;
        if flags & !COMPRESSED != 0 {
            return Err(DecodeError::Flags(flags));
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let max_bytes = max_bytes.min(kind.max_bytes());
        if length > max_bytes {
            return Err(DecodeError::TooLong { max: max_bytes, found: length.into() });
        }
        Ok(Self {
            kind,
            is_compressed: flags & COMPRESSED != 0,
            length,
            checksum: u32::from_le_bytes(checksum),
            header_checksum: crc32c::crc32c(&bytes[..CHECKED_BYTES]),
        })
    }

    /// Returns the length of the payload, in bytes.
    pub(crate) const fn length(&self) -> u32 {
        self.length
    }

    /// Checks a payload, and decompresses it to at most `max_bytes`.
    pub(super) fn open(&self, payload: Vec<u8>, max_bytes: u32) -> Result<Bytes, DecodeError> {
        if payload.len() != self.length as usize {
            return Err(DecodeError::Truncated { expected: self.length, found: payload.len() });
        }
        if crc32c::crc32c_append(self.header_checksum, &payload) != self.checksum {
            return Err(DecodeError::Checksum);
        }
        let payload = if self.is_compressed { decompress(&payload, max_bytes)? } else { payload };
        Ok(payload.into())
    }
}

/// A frame that is being written: the space of its header, then its payload.
#[derive(Debug)]
pub(super) struct FrameBuilder {
    frame: Vec<u8>,
    max_bytes: u32,
}

impl FrameBuilder {
    pub(super) fn new(max_bytes: u32) -> Self {
        Self { frame: vec![0; HEADER_BYTES], max_bytes }
    }

    /// Appends a part of the payload, with its length in front of it.
    pub(super) fn push_delimited(&mut self, message: &impl prost::Message) -> Result<(), EncodeError> {
        self.check(message.encoded_len().saturating_add(prost::length_delimiter_len(message.encoded_len())))?;
        // A vector grows as needed, so the encoding cannot fail.
        message.encode_length_delimited(&mut self.frame).map_err(|_| EncodeError::TooLong { max: self.max_bytes })
    }

    /// Appends the payload.
    pub(super) fn push(&mut self, message: &impl prost::Message) -> Result<(), EncodeError> {
        self.check(message.encoded_len())?;
        message.encode(&mut self.frame).map_err(|_| EncodeError::TooLong { max: self.max_bytes })
    }

    fn check(&self, more: usize) -> Result<(), EncodeError> {
        let length = (self.frame.len() - HEADER_BYTES).saturating_add(more);
        if length > self.max_bytes as usize { Err(EncodeError::TooLong { max: self.max_bytes }) } else { Ok(()) }
    }

    /// Completes the frame. The payload of a long page is compressed if that makes it shorter.
    pub(super) fn finish(mut self, kind: Kind) -> Result<Vec<u8>, EncodeError> {
        let mut flags = 0;
        if kind == Kind::Page && self.frame.len() - HEADER_BYTES > MIN_COMPRESSED_BYTES {
            let compressed = compress_to_vec(&self.frame[HEADER_BYTES..], CompressionLevel::Fastest);
            if compressed.len() < self.frame.len() - HEADER_BYTES {
                self.frame.truncate(HEADER_BYTES);
                self.frame.extend_from_slice(&compressed);
                flags = COMPRESSED;
            }
        }
        let length = u32::try_from(self.frame.len() - HEADER_BYTES);
        let length = length.map_err(|_| EncodeError::TooLong { max: self.max_bytes })?;
        self.frame[..4].copy_from_slice(&MAGIC);
        self.frame[4..6].copy_from_slice(&VERSION.to_le_bytes());
        self.frame[6..8].copy_from_slice(&[kind as u8, flags]);
        self.frame[8..CHECKED_BYTES].copy_from_slice(&length.to_le_bytes());
        let checksum = crc32c::crc32c(&self.frame[..CHECKED_BYTES]);
        let checksum = crc32c::crc32c_append(checksum, &self.frame[HEADER_BYTES..]);
        self.frame[CHECKED_BYTES..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        Ok(self.frame)
    }
}

/// Decompresses a zstd frame to at most `max_bytes`. Memory grows with the content, not with a claimed length.
pub(super) fn decompress(compressed: &[u8], max_bytes: u32) -> Result<Vec<u8>, DecodeError> {
    let damaged = |_| DecodeError::Compression;
    let mut source = compressed;
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(MAX_WINDOW_BYTES);
    decoder.reset(&mut source).map_err(damaged)?;
    let mut content = Vec::new();
    while !decoder.is_finished() {
        decoder.decode_blocks(&mut source, BlockDecodingStrategy::UptoBlocks(1)).map_err(damaged)?;
        let max = u64::from(max_bytes) + 1 - content.len() as u64;
        (&mut decoder).take(max).read_to_end(&mut content).map_err(|_| DecodeError::Compression)?;
        if content.len() > max_bytes as usize {
            return Err(DecodeError::TooLong { max: max_bytes, found: content.len() as u64 });
        }
    }
    let is_intact =
        decoder.get_checksum_from_data().is_none_or(|checksum| decoder.get_calculated_checksum() == Some(checksum));
    if !source.is_empty() || !is_intact {
        return Err(DecodeError::Compression);
    }
    Ok(content)
}
