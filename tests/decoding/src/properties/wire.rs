//! Frames of es-replication: a decoder accepts only what the encoder writes.

use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use es_core::aggregate::Outcome;
use es_core::model::{
    Category, CorrelationId, Dot, HybridTime, LogId, LogPosition, OriginId, SubjectId, VectorClock, Version,
};
use es_core::store::Home;
use es_core::{CommandId, EventId, Revision, StreamId};
use es_personal::{DataKey, KeyId, KeyState};
use es_replication::{
    Claim, CommandAnswer, CommandOutcome, Confirmation, ForeignEvent, ForwardedCommand, GapReason, Item, KeyRequest,
    Knowledge, MemberReport, Page, Promise, Pull, Sender, StreamFilter, Token,
};
use uuid::Uuid;

use super::{check_changed, generated};
use crate::wire::{HEADER_BYTES, Header, Message};

/// The maximum length of a payload, in bytes.
const MAX_BYTES: u32 = 1024 * 1024;
/// The kinds of frames, and one that does not exist.
const KINDS: std::ops::RangeInclusive<u8> = 1..=15;

/// The properties of frames, for bytes that are a frame, and for bytes that become the payload of one:
///
/// - decoding does not panic;
/// - a decoded message is encoded and decoded as the same message;
/// - a generated message is decoded as the same message; its frame with a flipped bit, or shortened, is rejected.
pub fn wire_frames(data: &[u8]) {
    check_decoded(data);
    // A fuzzer does not find checksums by chance. With the correct ones, the rest is decoded.
    for kind in KINDS {
        check_decoded(&frame(kind, 0, data));
        check_decoded(&frame(kind, 1, data));
    }
    let Ok(message) = message(&mut Unstructured::new(data)) else { return };
    let Ok(frame) = message.clone().encode(MAX_BYTES) else { return };
    assert_eq!(decode(&frame).as_ref(), Some(&message), "a message is decoded as another one");
    check_changed(&frame, data, |bytes| decode(bytes).is_some());
}

/// Returns the frame with the message that is generated from the bytes.
#[must_use]
pub fn wire_frame_of(data: &[u8]) -> Vec<u8> {
    let message = message(&mut Unstructured::new(data)).unwrap_or(Message::Heartbeat);
    message.encode(MAX_BYTES).unwrap_or_default()
}

/// Returns the message as the peer receives it, or `None` if it cannot be sent.
pub(crate) fn transferred(message: Message) -> Option<Message> {
    decode(&message.encode(MAX_BYTES).ok()?)
}

/// Returns a frame with a valid checksum.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut frame = [b"ESRP".as_slice(), &4_u16.to_le_bytes(), &[kind, flags], &length.to_le_bytes()].concat();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame), payload);
    frame.extend(checksum.to_le_bytes());
    frame.extend(payload);
    frame
}

pub(crate) fn decode(frame: &[u8]) -> Option<Message> {
    let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>()?;
    let header = Header::decode(*header, MAX_BYTES).ok()?;
    Message::decode(&header, payload.to_vec(), MAX_BYTES).ok()
}

fn check_decoded(frame: &[u8]) {
    let Some(message) = decode(frame) else { return };
    // The text of metadata may become longer.
    let Ok(again) = message.clone().encode(MAX_BYTES) else { return };
    assert_eq!(decode(&again), Some(message), "a decoded message is encoded as another one");
}

fn dot(from: &mut Unstructured<'_>) -> Result<Dot> {
    Ok(Dot { origin: OriginId::new(from.arbitrary()?), sequence: from.arbitrary()? })
}

fn clock(from: &mut Unstructured<'_>) -> Result<VectorClock> {
    (0..from.int_in_range(0..=3)?).map(|_| dot(from)).collect()
}

fn event_id(from: &mut Unstructured<'_>) -> Result<EventId> {
    from.arbitrary().map(Uuid::from_u128).map(EventId::from_uuid)
}

pub(crate) fn log_position(from: &mut Unstructured<'_>) -> Result<LogPosition> {
    let log_id = from.arbitrary::<bool>()?.then(|| from.arbitrary()).transpose()?;
    Ok(LogPosition {
        log_id: log_id.map(Uuid::from_u128).map(LogId::from_uuid),
        position: from.arbitrary::<bool>()?.then(|| generated::position(from)).transpose()?,
    })
}

fn knowledge(from: &mut Unstructured<'_>) -> Result<Knowledge> {
    let mut knowledge = Knowledge::from(clock(from)?);
    let dots: Vec<Dot> = knowledge.clock().iter().collect();
    for Dot { origin, .. } in dots {
        for _ in 0..from.int_in_range(0..=Knowledge::MAX_RANGES)? {
            let first: u64 = from.arbitrary()?;
            knowledge.withhold(origin, first..=first.saturating_add(from.int_in_range(0..=9)?));
        }
    }
    Ok(knowledge)
}

fn filter(from: &mut Unstructured<'_>) -> Result<StreamFilter> {
    let mut filter = if from.arbitrary()? { StreamFilter::none() } else { StreamFilter::all() };
    for name in ["counter", "other"] {
        if from.arbitrary()? {
            filter = filter.category(Category::new(name).expect("a name"));
        }
        if from.arbitrary()? {
            filter = filter.stream(StreamId::new(format!("{name}-1")).expect("a name"));
        }
    }
    Ok(filter)
}

fn reason(from: &mut Unstructured<'_>) -> Result<GapReason> {
    Ok(if from.arbitrary()? { GapReason::Withheld } else { GapReason::Removed })
}

pub(crate) fn pull(from: &mut Unstructured<'_>) -> Result<Pull> {
    Ok(Pull {
        sender: sender(from)?,
        knowledge: knowledge(from)?,
        filter: filter(from)?,
        cursor: from.arbitrary::<bool>()?.then(|| log_position(from)).transpose()?,
        max_bytes: from.arbitrary()?,
        wait: Duration::new(from.arbitrary()?, from.int_in_range(0..=999_999_999)?),
    })
}

/// Returns a sender with one of a few names, so that members have several reports.
pub(crate) fn sender(from: &mut Unstructured<'_>) -> Result<Sender> {
    let node = from.choose(&["a", "b", "hostile"])?.to_string();
    let time = chrono::DateTime::from_timestamp_micros(from.int_in_range(0..=4_000_000_000_000_000)?);
    Ok(Sender { node, origin: OriginId::new(from.arbitrary()?), time: time.expect("a time") })
}

pub(crate) fn reports(from: &mut Unstructured<'_>) -> Result<Vec<MemberReport>> {
    (0..from.int_in_range(0..=2)?)
        .map(|_| Ok(MemberReport { sender: sender(from)?, knowledge: Arc::new(knowledge(from)?) }))
        .collect()
}

fn foreign_event(from: &mut Unstructured<'_>) -> Result<ForeignEvent> {
    let event = generated::event(from)?;
    let mut data = event.data;
    data.keys = es_core::model::Keys::new();
    if data.stamp.is_none() {
        data.stamp = Some(Box::new(generated::stamp(from)?));
    }
    Ok(ForeignEvent { stream: event.stream, data, occurred_at: event.occurred_at })
}

fn item(from: &mut Unstructured<'_>) -> Result<Item> {
    if from.ratio(1, 4)? {
        let (one, other): (std::num::NonZeroU64, _) = (from.arbitrary()?, from.arbitrary()?);
        let (origin, reason) = (OriginId::new(from.arbitrary()?), reason(from)?);
        return Ok(Item::Gap { origin, from: one.min(other), through: one.max(other), reason });
    }
    (0..from.int_in_range(1..=3)?).map(|_| foreign_event(from)).collect::<Result<_>>().map(Item::Commit)
}

fn page(from: &mut Unstructured<'_>) -> Result<Page> {
    Ok(Page {
        sender: sender(from)?,
        reports: reports(from)?,
        items: (0..from.int_in_range(0..=3)?).map(|_| item(from)).collect::<Result<_>>()?,
        cursor: log_position(from)?,
        knowledge: knowledge(from)?,
        is_last: from.arbitrary()?,
        ids: (0..from.int_in_range(0..=2)?).map(|_| Ok((dot(from)?, event_id(from)?))).collect::<Result<_>>()?,
        promises: (0..from.int_in_range(0..=2)?).map(|_| promise(from)).collect::<Result<_>>()?,
    })
}

fn promise(from: &mut Unstructured<'_>) -> Result<Promise> {
    Ok(Promise { member: from.arbitrary()?, clock: clock(from)?, time: HybridTime::from_bits(from.arbitrary()?) })
}

fn command(from: &mut Unstructured<'_>) -> Result<ForwardedCommand> {
    Ok(ForwardedCommand {
        category: from.arbitrary()?,
        id: from.arbitrary()?,
        command_type: from.arbitrary()?,
        command: from.arbitrary::<Vec<u8>>()?.into(),
        command_id: CommandId::new(format!("c{}", from.arbitrary::<u64>()?)).expect("a name"),
        correlation_id: from.arbitrary::<bool>()?.then(|| from.arbitrary()).transpose()?.map(correlation_id),
        causation_id: from.arbitrary::<bool>()?.then(|| event_id(from)).transpose()?,
        wait: Duration::new(from.arbitrary()?, from.int_in_range(0..=999_999_999)?),
    })
}

fn correlation_id(number: u128) -> CorrelationId {
    CorrelationId::from_uuid(Uuid::from_u128(number))
}

fn answer(from: &mut Unstructured<'_>) -> Result<CommandAnswer> {
    let outcome = match from.int_in_range(0..=5)? {
        0 => CommandOutcome::Executed {
            outcome: *from.choose(&[Outcome::Done, Outcome::Unchanged, Outcome::Repeated])?,
            version: from.arbitrary::<bool>()?.then_some(Version::from(Revision::new(from.arbitrary()?))),
        },
        1 => CommandOutcome::Rejected { rejection: from.arbitrary::<Vec<u8>>()?.into() },
        2 => CommandOutcome::NotOwner { home: Home::Origin(OriginId::new(from.arbitrary()?)) },
        3 => CommandOutcome::NotOwner { home: Home::Node(from.arbitrary()?) },
        4 => CommandOutcome::Refused { reason: from.arbitrary()? },
        _ => CommandOutcome::Failed { reason: from.arbitrary()? },
    };
    Ok(CommandAnswer { outcome, token: Token::default() })
}

fn message(from: &mut Unstructured<'_>) -> Result<Message> {
    Ok(match from.int_in_range(0..=15)? {
        0 => Message::Hello { node: from.arbitrary()? },
        1 => Message::HelloAnswer { node: from.arbitrary()? },
        2 => Message::Pull(pull(from)?),
        3 => Message::Confirm(Claim { node: from.arbitrary()?, origin: OriginId::new(from.arbitrary()?) }),
        4 => {
            let last = from.arbitrary::<bool>()?.then(|| dot(from)).transpose()?;
            let id = from.arbitrary::<bool>()?.then(|| event_id(from)).transpose()?;
            let last = last.map(|dot| (dot, id));
            Message::Confirmation(Confirmation { last, is_retired: from.arbitrary()? })
        }
        5 => Message::Error(from.arbitrary()?),
        6 => Message::Heartbeat,
        7 => Message::Command(command(from)?),
        8 => Message::CommandAnswer(answer(from)?),
        9 => Message::AskHomes,
        10 => {
            let origins = 0..from.int_in_range(0..=3)?;
            Message::Homes(origins.map(|_| from.arbitrary().map(OriginId::new)).collect::<Result<_>>()?)
        }
        11 => {
            let node = from.choose(&["a", "b", "hostile"])?.to_string();
            let subject = SubjectId::new(generated::name(from)?).expect("a name");
            Message::AskKey(KeyRequest { node, subject, key: KeyId::from_bytes(from.arbitrary()?) })
        }
        12 => Message::Key(match from.int_in_range(0..=2)? {
            0 => KeyState::Present(DataKey::from_bytes(from.arbitrary()?)),
            1 => KeyState::Destroyed,
            _ => KeyState::Missing,
        }),
        _ => Message::Page(page(from)?),
    })
}
