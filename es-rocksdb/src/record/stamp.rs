//! The record extensions that store the replication stamp of an event: its identity and hybrid time, its vector clock,
//! and its command. The record of an event without a stamp has none of them.
//!
//! The vector clock has the origins themselves and not numbers that a table maps to origins, so that a record can be
//! decoded alone.

use std::num::NonZeroU64;

use es_core::model::{CommandDigest, CommandId, Dot, HybridTime, OriginId, Stamp, VectorClock};
use es_core::store::MAX_ORIGINS;

use super::error::RecordError;
use super::extensions::{Extensions, encode_head};
use super::layout::{COMMAND_TAG, SEEN_TAG, STAMP_TAG};
use super::primitive::{FieldReader, encode_varint, varint_len};

/// The value of the extension with the dot and the hybrid time: name and length of each field, in order.
pub(crate) const FIELDS: [(&str, usize); 3] = [("origin", 8), ("sequence number", 8), ("hybrid time", 8)];
/// The length of the value of the extension with the dot and the hybrid time.
const LEN: usize = FIELDS[0].1 + FIELDS[1].1 + FIELDS[2].1;
/// The length of an origin in a vector clock.
pub(crate) const ORIGIN_LEN: usize = 8;
/// The length of the digest of a command.
pub(crate) const DIGEST_LEN: usize = 8;

fn clock_len(clock: &VectorClock) -> usize {
    let origins = clock.iter();
    varint_len(origins.len() as u64) + origins.map(|dot| ORIGIN_LEN + varint_len(dot.sequence.get())).sum::<usize>()
}

fn command_len(id: &CommandId) -> usize {
    DIGEST_LEN + id.as_str().len()
}

/// Appends the extensions to `out`, unless the event has no stamp.
pub(super) fn encode(stamp: Option<&Stamp>, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let Some(Stamp { dot, time, seen, command }) = stamp else { return Ok(()) };
    encode_head(STAMP_TAG, LEN, out)?;
    for number in [dot.origin.get(), dot.sequence.get(), time.to_bits()] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    if let Some(clock) = seen {
        encode_clock(clock, out)?;
    }
    if let Some((id, digest)) = command {
        encode_head(COMMAND_TAG, command_len(id), out)?;
        out.extend_from_slice(&digest.to_bits().to_be_bytes());
        out.extend_from_slice(id.as_str().as_bytes());
    }
    Ok(())
}

fn encode_clock(clock: &VectorClock, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let origins = clock.iter();
    let count = origins.len() as u64;
    check_origins(count)?;
    encode_head(SEEN_TAG, clock_len(clock), out)?;
    encode_varint(count, out);
    for Dot { origin, sequence } in origins {
        out.extend_from_slice(&origin.get().to_be_bytes());
        encode_varint(sequence.get(), out);
    }
    Ok(())
}

/// Decodes the stamp from the extensions of a record.
pub(super) fn decode(extensions: &Extensions<'_>) -> Result<Option<Stamp>, RecordError> {
    let Extensions { stamp, seen, command, keys: _ } = *extensions;
    let Some(value) = stamp else {
        return match seen.map(|_| SEEN_TAG).or(command.map(|_| COMMAND_TAG)) {
            Some(tag) => Err(RecordError::ExtensionWithoutStamp { tag }),
            None => Ok(None),
        };
    };
    let mut reader = FieldReader { record: value, at: 0 };
    let [(origin, _), (sequence_number, _), (time, _)] = FIELDS;
    let dot = Dot { origin: OriginId::new(reader.u64(origin)?), sequence: sequence(reader.u64(sequence_number)?)? };
    let time = HybridTime::from_bits(reader.u64(time)?);
    end(&reader, STAMP_TAG)?;
    Ok(Some(Stamp {
        dot,
        time,
        seen: seen.map(decode_clock).transpose()?,
        command: command.map(decode_command).transpose()?,
    }))
}

fn decode_clock(value: &[u8]) -> Result<VectorClock, RecordError> {
    let mut reader = FieldReader { record: value, at: 0 };
    let count = reader.varint("number of origins")?;
    check_origins(count)?;
    let mut clock = VectorClock::new();
    let mut last = None;
    for _ in 0..count {
        let origin = OriginId::new(reader.u64("origin")?);
        let sequence = sequence(reader.varint("sequence number")?)?;
        if let Some(last) = last.replace(origin)
            && last >= origin
        {
            return Err(RecordError::OriginOrder { found: origin, last });
        }
        clock.extend([Dot { origin, sequence }]);
    }
    end(&reader, SEEN_TAG)?;
    Ok(clock)
}

fn decode_command(value: &[u8]) -> Result<(CommandId, CommandDigest), RecordError> {
    let mut reader = FieldReader { record: value, at: 0 };
    let digest = CommandDigest::from_bits(reader.u64("digest of the command")?);
    let id = reader.text("command id", value.len() - reader.at)?;
    Ok((CommandId::new(id)?, digest))
}

fn sequence(number: u64) -> Result<NonZeroU64, RecordError> {
    NonZeroU64::new(number).ok_or(RecordError::SequenceZero)
}

fn check_origins(count: u64) -> Result<(), RecordError> {
    if count > MAX_ORIGINS as u64 { Err(RecordError::TooManyOrigins { found: count }) } else { Ok(()) }
}

/// Checks that no bytes of an extension remain.
fn end(reader: &FieldReader<'_>, tag: u16) -> Result<(), RecordError> {
    match reader.record.len() - reader.at {
        0 => Ok(()),
        found => Err(RecordError::ExtensionTrailing { tag, found }),
    }
}
