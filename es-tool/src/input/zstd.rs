//! [`ZstdReader`]: decompresses the frames of a zstd file.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read};

use ruzstd::decoding::BlockDecodingStrategy;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

use super::format::Format;

/// Reads the decompressed content of all frames, and verifies their checksums.
pub(super) struct ZstdReader<R> {
    source: BufReader<R>,
    decoder: FrameDecoder,
    is_in_frame: bool,
}

impl<R: Read> ZstdReader<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source: BufReader::new(source), decoder: FrameDecoder::new(), is_in_frame: false }
    }

    /// Begins the next frame; returns `false` at the end of the file.
    fn begin_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if io::copy(&mut (&mut self.source).take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(in_words(&error)),
            }
        }
    }

    fn check_frame(&self) -> io::Result<()> {
        let (stored, found) = (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum());
        if stored.is_some() && stored != found {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the zstd checksum does not match the content"));
        }
        Ok(())
    }
}

/// Returns the error for people. The messages of the decoder name its types and numbers.
fn in_words(error: &FrameDecoderError) -> io::Error {
    let causes = std::iter::successors(Some(error as &(dyn Error + 'static)), |error| (*error).source());
    if let Some(cause) = causes.filter_map(|error| error.downcast_ref::<io::Error>()).last() {
        return match cause.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(cause.kind(), "the zstd data ends within a frame"),
            kind => io::Error::new(kind, cause.to_string()),
        };
    }
    let message = match error {
        FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::BadMagicNumber(number)) => {
            let found = Format::of(&number.to_le_bytes()).name().unwrap_or("other data");
            format!("expected another zstd frame or the end of the file after a zstd frame, found {found}")
        }
        FrameDecoderError::WindowSizeTooBig { requested, max } => {
            format!("expected zstd data with a window of at most {max} bytes, found {requested}")
        }
        FrameDecoderError::DictNotProvided { .. } => {
            "expected zstd data without a dictionary, found one with it".into()
        }
        FrameDecoderError::ReadFrameHeaderError(_)
        | FrameDecoderError::FrameHeaderError(_)
        | FrameDecoderError::FailedToInitialize(_) => "the header of a zstd frame is damaged".into(),
        _ => "a block of a zstd frame is damaged".into(),
    };
    io::Error::new(io::ErrorKind::InvalidData, message)
}

impl<R: Read> Read for ZstdReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.is_in_frame {
                if !self.begin_frame()? {
                    return Ok(0);
                }
                self.is_in_frame = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let decoded = self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
                decoded.map_err(|error| in_words(&error))?;
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            self.check_frame()?;
            self.is_in_frame = false;
        }
    }
}
