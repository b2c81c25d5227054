//! Any message round-trips, and anything else is refused.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use es_core::aggregate::Outcome;
use es_core::model::{
    Category, CommandDigest, CommandId, ContentType, CorrelationId, Dot, HybridTime, KeyChange, LogId, LogPosition,
    Metadata, OriginId, Stamp, SubjectId, Tag, UniqueKey, VectorClock, Version,
};
use es_core::store::Home;
use es_core::{EventData, EventId, EventType, Position, Revision, StreamId};
use es_personal::{DataKey, KeyId, KeyState};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

use super::frame::decompress;
use super::message::MAX_MEMBERS;
use super::{DecodeError, EncodeError, HEADER_BYTES, Header, Kind, Message};
use crate::command::{CommandAnswer, CommandOutcome, ForwardedCommand};
use crate::filter::StreamFilter;
use crate::keys::KeyRequest;
use crate::knowledge::Knowledge;
use crate::page::{Claim, Confirmation, ForeignEvent, GapReason, Item, MemberReport, Page, Pull, Sender};
use crate::promise::Promise;
use crate::wire::proto;

const MAX_BYTES: u32 = 1024 * 1024;

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn dot() -> impl Strategy<Value = Dot> {
    (any::<u64>(), any::<NonZeroU64>()).prop_map(|(origin, sequence)| Dot { origin: OriginId::new(origin), sequence })
}

fn clock() -> impl Strategy<Value = VectorClock> {
    vec(dot(), 0..6).prop_map(|dots| dots.into_iter().collect())
}

fn position() -> impl Strategy<Value = LogPosition> {
    (option::of(uuid()), option::of(1..u64::MAX / 4)).prop_map(|(log_id, position)| LogPosition {
        log_id: log_id.map(LogId::from_uuid),
        position: position.and_then(Position::new),
    })
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_:/ é-]{0,20}[a-z]"
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let value = prop_oneof![
        any::<i64>().prop_map(serde_json::Value::from),
        ".{0,20}".prop_map(serde_json::Value::from),
        Just(serde_json::json!({"list": [1, 2.5, null, {"deep": "ü\u{0}"}]})),
    ];
    btree_map(".{0,10}", value, 0..4).prop_map(Metadata::from_iter)
}

fn stamp() -> impl Strategy<Value = Stamp> {
    (dot(), any::<u64>(), option::of(clock()), option::of((name(), any::<u64>()))).prop_map(
        |(dot, time, seen, command)| Stamp {
            dot,
            time: HybridTime::from_bits(time),
            seen,
            command: command
                .map(|(id, digest)| (CommandId::new(id).expect("a name"), CommandDigest::from_bits(digest))),
        },
    )
}

prop_compose! {
    fn data()(
        (id, correlation_id, causation_id) in (uuid(), option::of(uuid()), option::of(uuid())),
        (event_type, version, tags) in (name(), 1_u32.., vec(name(), 0..4)),
        content_type in prop_oneof![
            Just(ContentType::Json),
            Just(ContentType::MessagePack),
            "image/[a-z]{1,9}".prop_map(ContentType::from),
        ],
        (payload, metadata, stamp) in (vec(any::<u8>(), 0..300), metadata(), stamp()),
    ) -> EventData {
        let event_type = EventType::new(event_type).expect("a name");
        EventData {
            id: EventId::from_uuid(id),
            tags: tags.iter().map(|tag| Tag::new(tag).expect("a name")).collect(),
            metadata,
            correlation_id: correlation_id.map(CorrelationId::from_uuid),
            causation_id: causation_id.map(EventId::from_uuid),
            stamp: Some(Box::new(stamp)),
            ..EventData::new(event_type, version, content_type, payload)
        }
    }
}

fn event() -> impl Strategy<Value = ForeignEvent> {
    (name(), data(), -1_000_000_000_000_000_i64..4_000_000_000_000_000).prop_map(|(stream, data, micros)| {
        ForeignEvent {
            stream: StreamId::new(stream).expect("a name"),
            data,
            occurred_at: DateTime::from_timestamp_micros(micros).expect("a time"),
        }
    })
}

/// Knowledge with up to the greatest number of ranges of each origin.
fn knowledge() -> impl Strategy<Value = Knowledge> {
    let ranges = vec((1..1_000_u64, 0..50_u64, any::<bool>()), 0..=Knowledge::MAX_RANGES);
    vec((dot(), ranges, any::<bool>()), 0..6).prop_map(|origins| {
        let mut knowledge = Knowledge::from(origins.iter().map(|(dot, ..)| *dot).collect::<VectorClock>());
        for (Dot { origin, .. }, ranges, is_exact) in origins {
            let through = knowledge.clock().get(origin).map_or(0, NonZeroU64::get);
            for (first, length, is_at_end) in ranges {
                let first = if is_at_end { through.saturating_sub(first) } else { first };
                let mut more = knowledge.clone();
                more.withhold(origin, first..=first.saturating_add(length));
                if more.withheld(origin).count() <= Knowledge::MAX_RANGES {
                    knowledge = more;
                }
            }
            if is_exact {
                knowledge.declare_exact(origin);
            }
        }
        knowledge
    })
}

fn filter() -> impl Strategy<Value = StreamFilter> {
    option::of((vec(name(), 0..4), vec(name(), 0..4))).prop_map(|names| {
        let Some((categories, streams)) = names else { return StreamFilter::all() };
        let category = |filter: StreamFilter, text: String| match Category::new(text) {
            Ok(category) => filter.category(category),
            Err(_) => filter,
        };
        let filter = categories.into_iter().fold(StreamFilter::none(), category);
        streams.into_iter().fold(filter, |filter, name| filter.stream(StreamId::new(name).expect("a name")))
    })
}

fn item() -> impl Strategy<Value = Item> {
    let gap = (any::<u64>(), any::<NonZeroU64>(), any::<NonZeroU64>(), any::<bool>());
    let gap = gap.prop_map(|(origin, one, other, is_withheld)| Item::Gap {
        origin: OriginId::new(origin),
        from: one.min(other),
        through: one.max(other),
        reason: if is_withheld { GapReason::Withheld } else { GapReason::Removed },
    });
    prop_oneof![4 => vec(event(), 1..5).prop_map(Item::Commit), 1 => gap]
}

fn sender() -> impl Strategy<Value = Sender> {
    (".{0,20}", any::<u64>(), -1_000_000_000_000_000_i64..4_000_000_000_000_000).prop_map(|(node, origin, micros)| {
        let time = DateTime::from_timestamp_micros(micros).expect("a time");
        Sender { node, origin: OriginId::new(origin), time }
    })
}

fn page() -> impl Strategy<Value = Page> {
    let ids = vec((dot(), uuid().prop_map(EventId::from_uuid)), 0..4);
    let promise = (".{0,8}", clock(), any::<u64>());
    let promise =
        promise.prop_map(|(member, clock, time)| Promise { member, clock, time: HybridTime::from_bits(time) });
    let parts = (vec(item(), 0..8), position(), knowledge(), any::<bool>(), ids, vec(promise, 0..4));
    // Most members know what the source knows.
    let reports = vec((sender(), option::of(knowledge())), 0..4);
    (parts, sender(), reports).prop_map(|((items, cursor, knowledge, is_last, ids, promises), sender, reports)| {
        let report = |(sender, other): (Sender, Option<Knowledge>)| {
            let knowledge = other.unwrap_or_else(|| knowledge.clone());
            MemberReport { sender, knowledge: Arc::new(knowledge) }
        };
        let reports = reports.into_iter().map(report).collect();
        Page { sender, reports, items, cursor, knowledge, is_last, ids, promises }
    })
}

fn message() -> impl Strategy<Value = Message> {
    let pull = (sender(), knowledge(), filter(), option::of(position()), any::<u32>(), any::<Duration>());
    let pull = pull.prop_map(|(sender, knowledge, filter, cursor, max_bytes, wait)| Pull {
        sender,
        knowledge,
        filter,
        cursor,
        max_bytes,
        wait,
    });
    let last = option::of((dot(), option::of(uuid().prop_map(EventId::from_uuid))));
    prop_oneof![
        1 => ".*".prop_map(|node| Message::Hello { node }),
        1 => ".*".prop_map(|node| Message::HelloAnswer { node }),
        3 => pull.prop_map(Message::Pull),
        6 => page().prop_map(Message::Page),
        1 => (".*", any::<u64>()).prop_map(|(node, origin)| {
            Message::Confirm(Claim { node, origin: OriginId::new(origin) })
        }),
        1 => (last, any::<bool>()).prop_map(|(last, is_retired)| {
            Message::Confirmation(Confirmation { last, is_retired })
        }),
        1 => ".*".prop_map(Message::Error),
        1 => Just(Message::Heartbeat),
        2 => command().prop_map(Message::Command),
        2 => answer().prop_map(Message::CommandAnswer),
        1 => Just(Message::AskHomes),
        1 => vec(any::<u64>().prop_map(OriginId::new), 0..5).prop_map(Message::Homes),
        2 => (".{0,60}", name(), any::<[u8; 16]>()).prop_map(|(node, subject, key)| {
            let (subject, key) = (SubjectId::new(subject).expect("a name"), KeyId::from_bytes(key));
            Message::AskKey(KeyRequest { node, subject, key })
        }),
        2 => key_state().prop_map(Message::Key),
    ]
}

fn key_state() -> impl Strategy<Value = KeyState> {
    prop_oneof![
        any::<[u8; 32]>().prop_map(|bytes| KeyState::Present(DataKey::from_bytes(bytes))),
        Just(KeyState::Destroyed),
        Just(KeyState::Missing),
    ]
}

fn command() -> impl Strategy<Value = ForwardedCommand> {
    let ids = (name(), option::of(uuid()), option::of(uuid()));
    ((".*", ".*", ".*"), vec(any::<u8>(), 0..100), ids, any::<Duration>()).prop_map(
        |((category, id, command_type), command, (command_id, correlation_id, causation_id), wait)| ForwardedCommand {
            category,
            id,
            command_type,
            command: command.into(),
            command_id: CommandId::new(command_id).expect("a name"),
            correlation_id: correlation_id.map(CorrelationId::from_uuid),
            causation_id: causation_id.map(EventId::from_uuid),
            wait,
        },
    )
}

fn answer() -> impl Strategy<Value = CommandAnswer> {
    let kinds = prop_oneof![Just(Outcome::Done), Just(Outcome::Unchanged), Just(Outcome::Repeated)];
    let versions = option::of(prop_oneof![
        any::<u64>().prop_map(|revision| Version::from(Revision::new(revision))),
        uuid().prop_map(|digest| format!("v{}", digest.simple()).parse().expect("a version")),
    ]);
    let outcome = prop_oneof![
        (kinds, versions).prop_map(|(outcome, version)| CommandOutcome::Executed { outcome, version }),
        vec(any::<u8>(), 0..100).prop_map(|bytes| CommandOutcome::Rejected { rejection: bytes.into() }),
        any::<u64>().prop_map(|origin| CommandOutcome::NotOwner { home: Home::Origin(OriginId::new(origin)) }),
        ".*".prop_map(|node| CommandOutcome::NotOwner { home: Home::Node(node) }),
        ".*".prop_map(|reason| CommandOutcome::Refused { reason }),
        ".*".prop_map(|reason| CommandOutcome::Failed { reason }),
    ];
    let token = clock().prop_map(|clock| {
        let token = serde_json::json!({ "clock": clock, "logs": { LogId::new().to_string(): 7 } });
        serde_json::from_value(token).expect("a token")
    });
    (outcome, token).prop_map(|(outcome, token)| CommandAnswer { outcome, token })
}

/// Decodes the bytes of one frame.
fn decode(frame: &[u8]) -> Result<Message, DecodeError> {
    let Some((header, payload)) = frame.split_first_chunk::<HEADER_BYTES>() else {
        return Err(DecodeError::Truncated { expected: 0, found: frame.len() });
    };
    let header = Header::decode(*header, MAX_BYTES)?;
    Message::decode(&header, payload.to_vec(), MAX_BYTES)
}

/// Returns a frame with any payload and a valid checksum.
fn frame_of(kind: Kind, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Message::Heartbeat.encode(MAX_BYTES).expect("a frame");
    frame[6..8].copy_from_slice(&[kind as u8, flags]);
    frame[8..12].copy_from_slice(&u32::try_from(payload.len()).expect("short").to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame[..12]), payload);
    frame[12..].copy_from_slice(&checksum.to_le_bytes());
    [&frame[..], payload].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_round_trips(message in message()) {
        let frame = message.clone().encode(MAX_BYTES).expect("a frame");
        prop_assert_eq!(decode(&frame).expect("a message"), message);
    }

    #[test]
    fn a_flipped_bit_is_detected(message in message(), place in any::<proptest::sample::Index>(), bit in 0_u8..8) {
        let mut frame = message.encode(MAX_BYTES).expect("a frame");
        let place = place.index(frame.len());
        frame[place] ^= 1 << bit;
        prop_assert!(decode(&frame).is_err());
    }

    #[test]
    fn a_truncated_frame_is_refused(message in message(), length in any::<proptest::sample::Index>()) {
        let frame = message.encode(MAX_BYTES).expect("a frame");
        prop_assert!(decode(&frame[..length.index(frame.len())]).is_err());
    }

    #[test]
    fn random_bytes_are_refused(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_err());
    }

    /// A peer that computes the checksum of what it sends cannot cause a panic, either.
    #[test]
    fn any_payload_is_decoded_or_refused(
        kind in proptest::sample::select(&Kind::ALL[..]),
        flags in 0_u8..2,
        payload in vec(any::<u8>(), 0..200),
    ) {
        let _ = decode(&frame_of(kind, flags, &payload));
    }

    #[test]
    fn a_changed_payload_with_a_valid_checksum_is_decoded_or_refused(
        message in message(),
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let kind = message.kind();
        let mut frame = message.encode(MAX_BYTES).expect("a frame");
        let flags = frame[7];
        let payload = &mut frame[HEADER_BYTES..];
        if !payload.is_empty() {
            for (place, byte) in &changes {
                payload[place.index(payload.len())] = *byte;
            }
        }
        let _ = decode(&frame_of(kind, flags, payload));
    }
}

fn page_of(payload: Vec<u8>) -> Page {
    let stamp = Stamp {
        dot: Dot { origin: OriginId::new(1), sequence: NonZeroU64::MIN },
        time: HybridTime::from_bits(1),
        seen: None,
        command: None,
    };
    let mut data = EventData::new(EventType::new("x").expect("a name"), 1, ContentType::Json, payload);
    data.stamp = Some(Box::new(stamp));
    let stream = StreamId::new("x-1").expect("a name");
    let event = ForeignEvent { stream, data, occurred_at: DateTime::UNIX_EPOCH };
    let cursor = LogPosition { log_id: None, position: None };
    let items = vec![Item::Commit(vec![event])];
    let sender = Sender::now("a", OriginId::new(1));
    let (reports, ids, promises) = (Vec::new(), Vec::new(), Vec::new());
    Page { sender, reports, items, cursor, knowledge: Knowledge::new(), is_last: true, ids, promises }
}

/// Returns the event of a page with one event.
fn event_of(page: &mut Page) -> &mut EventData {
    match &mut page.items[0] {
        Item::Commit(events) => &mut events[0].data,
        Item::Gap { .. } => unreachable!("the page has a commit"),
    }
}

#[test]
fn a_long_page_is_compressed_if_that_makes_it_shorter() {
    let random = || {
        let mut state = 1_u64;
        let next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        std::iter::repeat_with(next).take(100_000).collect::<Vec<_>>()
    };
    for (payload, is_compressed) in [(vec![7; 100_000], true), (vec![7; 1_000], false), (random(), false)] {
        let length = payload.len();
        let message = Message::Page(page_of(payload));
        let frame = message.clone().encode(MAX_BYTES).expect("a frame");
        assert_eq!(frame[7], u8::from(is_compressed), "{length} bytes");
        assert_eq!(frame.len() < length, is_compressed);
        assert_eq!(decode(&frame).expect("a message"), message);
    }
}

#[test]
fn a_frame_over_the_limit_is_refused_on_both_sides() {
    let message = Message::Page(page_of(vec![7; 100_000]));
    assert_eq!(message.clone().encode(100_000), Err(EncodeError::TooLong { max: 100_000 }));
    let frame = message.encode(MAX_BYTES).expect("a frame");
    let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>().expect("a header");
    assert!(matches!(Header::decode(*header, 10), Err(DecodeError::TooLong { max: 10, .. })));
    // The compressed payload is short, and its content is too long.
    let header = Header::decode(*header, 10_000).expect("a header");
    let error = Message::decode(&header, payload.to_vec(), 10_000).expect_err("too long");
    assert!(matches!(error, DecodeError::TooLong { max: 10_000, .. }), "{error}");
}

#[test]
fn a_bomb_and_a_great_window_are_refused_without_their_memory() {
    let zeros =
        ruzstd::encoding::compress_to_vec(&vec![0; 50 * 1024 * 1024][..], ruzstd::encoding::CompressionLevel::Fastest);
    assert!(zeros.len() < 50_000, "{}", zeros.len());
    assert!(matches!(decompress(&zeros, MAX_BYTES), Err(DecodeError::TooLong { .. })));
    // The magic of zstd, a descriptor without a size, and a window of 2^41 bytes.
    let great_window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00];
    assert!(matches!(decompress(&great_window, MAX_BYTES), Err(DecodeError::Compression)));
}

/// Regression: each report without knowledge got a copy of the knowledge of the page, so that a frame of 100 KiB took
/// the memory of hundreds of MiB.
#[test]
fn reports_share_the_knowledge_of_their_page_and_their_number_is_limited() {
    let dot = |origin: u64| Dot { origin: OriginId::new(origin), sequence: NonZeroU64::MIN };
    let page = |reports: usize| {
        let knowledge = Knowledge::from((1..2_000).map(dot).collect::<VectorClock>());
        let report = MemberReport { sender: Sender::now("", OriginId::new(1)), knowledge: Arc::new(knowledge.clone()) };
        Message::Page(Page { knowledge, reports: vec![report; reports], ..page_of(vec![1]) })
    };
    let frame = page(MAX_MEMBERS).encode(MAX_BYTES).expect("a frame");
    let Message::Page(decoded) = decode(&frame).expect("a page") else { panic!("a page") };
    assert_eq!((decoded.reports.len(), decoded.knowledge.clock().iter().len()), (MAX_MEMBERS, 1_999));
    assert_eq!(*decoded.reports[0].knowledge, decoded.knowledge);
    assert!(decoded.reports.iter().all(|report| Arc::ptr_eq(&report.knowledge, &decoded.reports[0].knowledge)));

    let frame = page(MAX_MEMBERS + 1).encode(MAX_BYTES).expect("a frame");
    assert!(decode(&frame).expect_err("too many reports").to_string().ends_with("found more reports"));
}

/// An element of 2 bytes needs the memory of a struct, so the elements are counted before they are decoded.
#[test]
fn the_start_of_a_page_is_limited() {
    let start = |bytes: &[u8]| {
        let mut payload = Vec::new();
        prost::encoding::encode_varint(bytes.len() as u64, &mut payload);
        payload.extend(bytes);
        decode(&frame_of(Kind::Page, 0, &payload)).expect_err("no page").to_string()
    };
    for (tag, list) in [(4, "ids"), (5, "promises"), (7, "reports")] {
        let elements = [tag << 3 | 2, 0].repeat(200_000);
        assert_eq!(
            start(&elements),
            format!("expected a limited number of elements as the start of a page, found more {list}")
        );
    }
    assert!(start(&[0x3a, 200]).contains("not a message"));
    let mut longer = Vec::new();
    prost::encoding::encode_varint(17 * 1024 * 1024, &mut longer);
    let error = decode(&frame_of(Kind::Page, 0, &longer)).expect_err("too long").to_string();
    assert_eq!(error, "expected at most 16 MiB as the start of a page, found 17825792");
}

#[test]
fn an_event_with_a_unique_key_or_without_a_stamp_is_not_sent() {
    let mut page = page_of(vec![1]);
    let id = event_of(&mut page).id;
    let key = UniqueKey::new("email", "a@example.com").expect("a key");
    event_of(&mut page).keys.push(KeyChange::Claim(key));
    assert_eq!(Message::Page(page).encode(MAX_BYTES), Err(EncodeError::UniqueKey(id)));

    let mut page = page_of(vec![1]);
    let id = event_of(&mut page).id;
    event_of(&mut page).stamp = None;
    assert_eq!(Message::Page(page).encode(MAX_BYTES), Err(EncodeError::NoStamp(id)));

    let empty = Page { items: vec![Item::Commit(Vec::new())], ..page_of(vec![1]) };
    assert_eq!(Message::Page(empty).encode(MAX_BYTES), Err(EncodeError::EmptyCommit));
}

/// A peer cannot make a node read more than one key, or more than the names of a request.
#[test]
fn frames_of_keys_have_limits_of_their_own_on_both_sides() {
    let long = KeyRequest {
        node: "x".repeat(1024),
        subject: SubjectId::new("7c9e").expect("a name"),
        key: KeyId::from_bytes([7; 16]),
    };
    assert_eq!(Message::AskKey(long).encode(MAX_BYTES), Err(EncodeError::TooLong { max: 1024 }));
    let longest = KeyRequest {
        node: "x".repeat(255),
        subject: SubjectId::new("x".repeat(512)).expect("a name"),
        key: KeyId::from_bytes([7; 16]),
    };
    let frame = Message::AskKey(longest.clone()).encode(MAX_BYTES).expect("names of the greatest lengths");
    assert_eq!(decode(&frame).expect("a message"), Message::AskKey(longest));
    for (kind, max) in [(Kind::AskKey, 1024), (Kind::Key, 64)] {
        let error = decode(&frame_of(kind, 0, &vec![0; max as usize + 1])).expect_err("too long");
        assert!(matches!(error, DecodeError::TooLong { max: found, .. } if found == max), "{kind:?}: {error}");
        let error = decode(&frame_of(kind, 0, &vec![0; max as usize])).expect_err("no message");
        assert!(!matches!(error, DecodeError::TooLong { .. }), "{kind:?}: {error}");
        // A compressed payload must not become longer, either.
        let zeros = vec![0; max as usize + 1];
        let zeros = ruzstd::encoding::compress_to_vec(&zeros[..], ruzstd::encoding::CompressionLevel::Fastest);
        let error = decode(&frame_of(kind, 1, &zeros)).expect_err("too long");
        assert!(matches!(error, DecodeError::TooLong { max: found, .. } if found == max), "{kind:?}: {error}");
    }
}

#[test]
fn keys_and_ids_of_other_lengths_are_refused() {
    let refused = |kind, payload: &[u8]| decode(&frame_of(kind, 0, payload)).expect_err("no message").to_string();
    // A subject, and an id of 15 bytes.
    let request = [&[0x12, 1, b'a', 0x1a, 15][..], &[7; 15]].concat();
    assert_eq!(refused(Kind::AskKey, &request), "expected 16 bytes as the id of a key, found 15");
    let nobody = [&[0x1a, 16][..], &[7; 16]].concat();
    assert!(refused(Kind::AskKey, &nobody).contains("a subject"), "{}", refused(Kind::AskKey, &nobody));
    let key = [&[0x0a, 33][..], &[7; 33]].concat();
    assert_eq!(refused(Kind::Key, &key), "expected 32 bytes as a key, found 33");
    assert_eq!(refused(Kind::Key, &[]), "expected a state as the answer to a request for a key, found none");
}

#[test]
fn a_key_is_not_in_the_debug_output_of_its_message() {
    let message = Message::Key(KeyState::Present(DataKey::from_bytes([0xab; 32])));
    assert_eq!(format!("{message:?}"), "Key(Present(DataKey))");
}

#[test]
fn another_version_is_named() {
    let mut frame = Message::Heartbeat.encode(MAX_BYTES).expect("a frame");
    frame[4] = 9;
    let error = decode(&frame).expect_err("another version");
    assert_eq!(error.to_string(), "expected version 4 of the replication protocol, found version 9");
}

/// The withheld ranges of origins, as they are encoded.
type WithheldDeltas<'a> = &'a [(u64, &'a [u64])];

fn withheld(clock: &[(u64, u64)], withheld: WithheldDeltas<'_>) -> Result<Knowledge, DecodeError> {
    let pairs = clock.iter().flat_map(|(origin, through)| [*origin, *through]).collect();
    let withheld = withheld.iter().map(|(origin, deltas)| proto::WireWithheld {
        origin: *origin,
        deltas: deltas.to_vec(),
        is_exact: false,
    });
    proto::WireKnowledge { clock: Some(proto::WireClock { pairs }), withheld: withheld.collect() }.try_into()
}

/// A decoder accepts only what the encoder writes.
#[test]
fn ranges_that_no_node_sends_are_refused() {
    let valid = withheld(&[(1, 9), (2, 5)], &[(1, &[2, 0, 2, 1]), (2, &[5, 0])]).expect("valid");
    assert_eq!(valid.withheld(OriginId::new(1)).collect::<Vec<_>>(), [2..=2, 4..=5]);
    assert_eq!(valid.withheld(OriginId::new(2)).collect::<Vec<_>>(), [5..=5]);
    let many: Vec<u64> = [2, 0].repeat(Knowledge::MAX_RANGES + 1);
    let full = &many[2..];
    assert!(withheld(&[(1, 1_000)], &[(1, full)]).is_ok());
    let invalid: [(&str, WithheldDeltas<'_>); 11] = [
        ("a range that is not accounted for", &[(1, &[2, 8])]),
        ("an unknown origin", &[(3, &[1, 0])]),
        ("ranges without a sequence between them", &[(1, &[2, 0, 1, 0])]),
        ("overlapping ranges", &[(1, &[2, 3, 0, 1])]),
        ("a range from 0", &[(1, &[0, 1])]),
        ("half a range", &[(1, &[2, 0, 3])]),
        ("no range", &[(1, &[])]),
        ("unordered origins", &[(2, &[1, 0]), (1, &[1, 0])]),
        ("an origin twice", &[(1, &[1, 0]), (1, &[3, 0])]),
        ("too many ranges", &[(1, &many)]),
        ("a range that ends after the last number", &[(1, &[2, u64::MAX])]),
    ];
    for (what, ranges) in invalid {
        assert!(withheld(&[(1, 9), (2, 5)], ranges).is_err(), "{what}");
    }
}
