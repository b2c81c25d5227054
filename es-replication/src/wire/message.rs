//! [`Message`]: what a frame carries.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use es_core::EventId;
use es_core::model::{Dot, HybridTime, OriginId};
use es_personal::KeyState;
use prost::Message as _;
use prost::encoding::{DecodeContext, decode_key, skip_field};

use crate::command::{CommandAnswer, ForwardedCommand};
use crate::keys::KeyRequest;
use crate::knowledge::Knowledge;
use crate::page::{Claim, Confirmation, GapReason, Item, MemberReport, Page, Pull, Sender};
use crate::promise::Promise;
use crate::wire::command::encode_answer;
use crate::wire::error::{DecodeError, EncodeError};
use crate::wire::event::{decode_time, decode_uuid, encode_event, encode_uuid};
use crate::wire::frame::{FrameBuilder, Header, Kind};
use crate::wire::knowledge::encode_filter;
use crate::wire::proto;

/// The maximum length of the start of a page, in bytes.
const MAX_START_BYTES: usize = 16 * 1024 * 1024;
/// The maximum number of reports and of promises of a page. A member has one of each.
pub(super) const MAX_MEMBERS: usize = 4_096;
/// The lists of the start of a page: the tag, what they have, and the maximum number of elements. A pull has no room
/// for more origins, which have an id each.
const MAX_LISTED: [(u32, &str, usize); 3] =
    [(4, "ids", 128 * 1024), (5, "promises", MAX_MEMBERS), (7, "reports", MAX_MEMBERS)];

/// A message of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// The first message of a client, with its name.
    Hello {
        node: String,
    },
    /// The answer of the server, with its name.
    HelloAnswer {
        node: String,
    },
    Pull(Pull),
    Page(Page),
    Confirm(Claim),
    Confirmation(Confirmation),
    /// A request failed, or the connection is refused.
    Error(String),
    /// The server still works on the answer.
    Heartbeat,
    Command(ForwardedCommand),
    CommandAnswer(CommandAnswer),
    /// Asks for the origins for which the server decides.
    AskHomes,
    Homes(Vec<OriginId>),
    AskKey(KeyRequest),
    Key(KeyState),
}

impl Message {
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Hello { .. } => Kind::Hello,
            Self::HelloAnswer { .. } => Kind::HelloAnswer,
            Self::Pull(_) => Kind::Pull,
            Self::Page(_) => Kind::Page,
            Self::Confirm(_) => Kind::Confirm,
            Self::Confirmation(_) => Kind::Confirmation,
            Self::Error(_) => Kind::Error,
            Self::Heartbeat => Kind::Heartbeat,
            Self::Command(_) => Kind::Command,
            Self::CommandAnswer(_) => Kind::CommandAnswer,
            Self::AskHomes => Kind::AskHomes,
            Self::Homes(_) => Kind::Homes,
            Self::AskKey(_) => Kind::AskKey,
            Self::Key(_) => Kind::Key,
        }
    }

    /// Returns the frame with this message. Its payload has at most `max_bytes`, also before the compression, and at
    /// most the length of its kind.
    pub(crate) fn encode(self, max_bytes: u32) -> Result<Vec<u8>, EncodeError> {
        let kind = self.kind();
        let mut frame = FrameBuilder::new(max_bytes.min(kind.max_bytes()));
        match self {
            Self::Hello { node } | Self::HelloAnswer { node } => frame.push(&proto::WireHello { node }),
            Self::Pull(pull) => frame.push(&proto::WirePull::from(pull)),
            Self::Page(page) => encode_page(page, &mut frame),
            Self::Confirm(Claim { node, origin }) => frame.push(&proto::WireClaim { origin: origin.get(), node }),
            Self::Confirmation(confirmation) => frame.push(&proto::WireConfirmation::from(confirmation)),
            Self::Error(message) => frame.push(&proto::WireFailure { message }),
            Self::Heartbeat | Self::AskHomes => frame.push(&proto::WireHeartbeat {}),
            Self::Command(command) => frame.push(&proto::WireForward::from(command)),
            Self::CommandAnswer(answer) => frame.push(&encode_answer(answer)?),
            Self::AskKey(request) => frame.push(&proto::WireKeyRequest::from(request)),
            Self::Key(state) => frame.push(&proto::WireKeyAnswer::from(state)),
            Self::Homes(origins) => {
                frame.push(&proto::WireHomes { origins: origins.into_iter().map(OriginId::get).collect() })
            }
        }?;
        frame.finish(kind)
    }

    /// Decodes the payload of a frame, which has at most `max_bytes` after the decompression.
    pub(crate) fn decode(header: &Header, payload: Vec<u8>, max_bytes: u32) -> Result<Self, DecodeError> {
        let payload = header.open(payload, max_bytes.min(header.kind.max_bytes()))?;
        Ok(match header.kind {
            Kind::Hello => Self::Hello { node: proto::WireHello::decode(payload)?.node },
            Kind::HelloAnswer => Self::HelloAnswer { node: proto::WireHello::decode(payload)?.node },
            Kind::Pull => Self::Pull(proto::WirePull::decode(payload)?.try_into()?),
            Kind::Page => Self::Page(decode_page(payload)?),
            Kind::Confirm => {
                let proto::WireClaim { origin, node } = proto::WireClaim::decode(payload)?;
                Self::Confirm(Claim { node, origin: OriginId::new(origin) })
            }
            Kind::Confirmation => Self::Confirmation(proto::WireConfirmation::decode(payload)?.try_into()?),
            Kind::Error => Self::Error(proto::WireFailure::decode(payload)?.message),
            Kind::Heartbeat => {
                proto::WireHeartbeat::decode(payload)?;
                Self::Heartbeat
            }
            Kind::Command => Self::Command(proto::WireForward::decode(payload)?.try_into()?),
            Kind::CommandAnswer => Self::CommandAnswer(proto::WireAnswer::decode(payload)?.try_into()?),
            Kind::AskHomes => {
                proto::WireHeartbeat::decode(payload)?;
                Self::AskHomes
            }
            Kind::AskKey => Self::AskKey(proto::WireKeyRequest::decode(payload)?.try_into()?),
            Kind::Key => Self::Key(proto::WireKeyAnswer::decode(payload)?.try_into()?),
            Kind::Homes => {
                let origins = proto::WireHomes::decode(payload)?.origins;
                Self::Homes(origins.into_iter().map(OriginId::new).collect())
            }
        })
    }
}

impl From<Pull> for proto::WirePull {
    fn from(pull: Pull) -> Self {
        let Pull { sender, knowledge, filter, cursor, max_bytes, wait } = pull;
        Self {
            knowledge: Some((&knowledge).into()),
            cursor: cursor.map(Into::into),
            max_bytes,
            wait_seconds: wait.as_secs(),
            wait_nanos: wait.subsec_nanos(),
            filter: encode_filter(&filter),
            sender: Some(sender.into()),
        }
    }
}

impl TryFrom<proto::WirePull> for Pull {
    type Error = DecodeError;

    fn try_from(pull: proto::WirePull) -> Result<Self, DecodeError> {
        if pull.wait_nanos >= 1_000_000_000 {
            return Err(DecodeError::field("the wait of a pull", "less than a second in nanoseconds", pull.wait_nanos));
        }
        Ok(Self {
            sender: decode_sender(pull.sender)?,
            knowledge: pull.knowledge.unwrap_or_default().try_into()?,
            filter: pull.filter.map(TryInto::try_into).transpose()?.unwrap_or_default(),
            cursor: pull.cursor.map(TryInto::try_into).transpose()?,
            max_bytes: pull.max_bytes,
            wait: Duration::new(pull.wait_seconds, pull.wait_nanos),
        })
    }
}

impl From<Confirmation> for proto::WireConfirmation {
    fn from(confirmation: Confirmation) -> Self {
        let Confirmation { last, is_retired } = confirmation;
        let id = last.and_then(|(_, id)| id).map(|id| encode_uuid(id.as_uuid()));
        Self { last: last.map(|(dot, _)| dot.into()), id, is_retired }
    }
}

impl TryFrom<proto::WireConfirmation> for Confirmation {
    type Error = DecodeError;

    fn try_from(confirmation: proto::WireConfirmation) -> Result<Self, DecodeError> {
        let id = confirmation.id.map(|id| decode_uuid("an event id", &id)).transpose()?.map(EventId::from_uuid);
        let is_retired = confirmation.is_retired;
        match confirmation.last {
            Some(last) => Ok(Self { last: Some((last.try_into()?, id)), is_retired }),
            None if id.is_some() => Err(DecodeError::field("a confirmation", "an id with its dot", "an id only")),
            None => Ok(Self { last: None, is_retired }),
        }
    }
}

fn encode_page(page: Page, frame: &mut FrameBuilder) -> Result<(), EncodeError> {
    let Page { sender, reports, items, cursor, knowledge, is_last, ids, promises } = page;
    let reports = reports.into_iter().map(|report| encode_report(report, &knowledge)).collect();
    let sender = Some(sender.into());
    let (cursor, knowledge) = (Some(cursor.into()), Some((&knowledge).into()));
    let id = |(dot, id): (Dot, EventId)| proto::WireEventId { dot: Some(dot.into()), id: encode_uuid(id.as_uuid()) };
    let ids = ids.into_iter().map(id).collect();
    let promises = promises.into_iter().map(Into::into).collect();
    let start = proto::WirePageStart { cursor, knowledge, is_last, ids, promises, sender, reports };
    frame.push_delimited(&start)?;
    for item in items {
        match item {
            Item::Commit(events) if events.is_empty() => return Err(EncodeError::EmptyCommit),
            Item::Commit(events) => {
                for (index, event) in events.into_iter().enumerate() {
                    let event = proto::WireEntryKind::Event(encode_event(event, index == 0)?);
                    frame.push_delimited(&proto::WireEntry { kind: Some(event) })?;
                }
            }
            Item::Gap { origin, from, through, reason } => {
                let is_withheld = reason == GapReason::Withheld;
                let (origin, from, through) = (origin.get(), from.get(), through.get());
                let gap = proto::WireGap { origin, from, through, is_withheld };
                frame.push_delimited(&proto::WireEntry { kind: Some(proto::WireEntryKind::Gap(gap)) })?;
            }
        }
    }
    Ok(())
}

fn decode_page(mut payload: Bytes) -> Result<Page, DecodeError> {
    let start = decode_start(&mut payload)?;
    let cursor = start.cursor.ok_or_else(|| DecodeError::field("the cursor of a page", "a position", "none"))?;
    let mut items = Vec::new();
    while payload.has_remaining() {
        match proto::WireEntry::decode_length_delimited(&mut payload)?.kind {
            Some(proto::WireEntryKind::Gap(gap)) => items.push(gap.try_into()?),
            Some(proto::WireEntryKind::Event(event)) => {
                let starts_commit = event.starts_commit;
                let event = event.try_into()?;
                match items.last_mut() {
                    _ if starts_commit => items.push(Item::Commit(vec![event])),
                    Some(Item::Commit(events)) => events.push(event),
                    _ => return Err(DecodeError::field("an event", "the start of a commit", "a later event")),
                }
            }
            None => return Err(DecodeError::field("an entry of a page", "an event or a gap", "another entry")),
        }
    }
    let knowledge = Knowledge::try_from(start.knowledge.unwrap_or_default())?;
    let shared = Arc::new(knowledge.clone());
    let reports = start.reports.into_iter().map(|report| decode_report(report, &shared)).collect::<Result<_, _>>()?;
    Ok(Page {
        sender: decode_sender(start.sender)?,
        reports,
        items,
        cursor: cursor.try_into()?,
        knowledge,
        is_last: start.is_last,
        ids: start.ids.into_iter().map(decode_event_id).collect::<Result<_, _>>()?,
        promises: start.promises.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
    })
}

/// Decodes the start of a page, if its length and its lists are within the limits.
fn decode_start(payload: &mut Bytes) -> Result<proto::WirePageStart, DecodeError> {
    const FIELD: &str = "the start of a page";
    let length = prost::decode_length_delimiter(&mut *payload)?;
    if length > MAX_START_BYTES {
        return Err(DecodeError::field(FIELD, "at most 16 MiB", length));
    }
    if length > payload.len() {
        return Err(DecodeError::field(FIELD, "all of its bytes", payload.len()));
    }
    let start = payload.split_to(length);
    // An element of a list can be 2 bytes long, and needs the memory of a struct. So the elements are counted first.
    let (mut rest, mut counts) = (start.clone(), [0_usize; MAX_LISTED.len()]);
    while rest.has_remaining() {
        let (tag, wire_type) = decode_key(&mut rest)?;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
        let lists = MAX_LISTED.iter().zip(&mut counts);
        for ((_, name, max), count) in lists.filter(|((listed, ..), _)| *listed == tag) {
            *count += 1;
            if *count > *max {
                return Err(DecodeError::field(FIELD, "a limited number of elements", format_args!("more {name}")));
            }
        }
    }
    Ok(proto::WirePageStart::decode(start)?)
}

impl From<Sender> for proto::WireSender {
    fn from(Sender { node, origin, time }: Sender) -> Self {
        Self { node, origin: origin.get(), time: time.timestamp_micros() }
    }
}

fn decode_sender(sender: Option<proto::WireSender>) -> Result<Sender, DecodeError> {
    let sender = sender.ok_or_else(|| DecodeError::field("the sender of a message", "a node", "none"))?;
    let time = decode_time("the time of a message", sender.time)?;
    Ok(Sender { node: sender.node, origin: OriginId::new(sender.origin), time })
}

/// Converts a report for sending. Most members know what the source knows, so that is not repeated.
fn encode_report(MemberReport { sender, knowledge }: MemberReport, of_page: &Knowledge) -> proto::WireReport {
    let knowledge = (*knowledge != *of_page).then(|| (&*knowledge).into());
    proto::WireReport { sender: Some(sender.into()), knowledge }
}

fn decode_report(report: proto::WireReport, of_page: &Arc<Knowledge>) -> Result<MemberReport, DecodeError> {
    let knowledge = report.knowledge.map(Knowledge::try_from).transpose()?.map(Arc::new);
    let sender = decode_sender(report.sender)?;
    // A report of a few bytes must not need the memory of the knowledge of the page.
    Ok(MemberReport { sender, knowledge: knowledge.unwrap_or_else(|| Arc::clone(of_page)) })
}

impl From<Promise> for proto::WirePromise {
    fn from(promise: Promise) -> Self {
        let Promise { member, clock, time } = promise;
        Self { member, clock: Some((&clock).into()), time: time.to_bits() }
    }
}

impl TryFrom<proto::WirePromise> for Promise {
    type Error = DecodeError;

    fn try_from(promise: proto::WirePromise) -> Result<Self, DecodeError> {
        let proto::WirePromise { member, clock, time } = promise;
        let clock = clock.unwrap_or_default().try_into()?;
        Ok(Self { member, clock, time: HybridTime::from_bits(time) })
    }
}

fn decode_event_id(event: proto::WireEventId) -> Result<(Dot, EventId), DecodeError> {
    let proto::WireEventId { dot, id } = event;
    let dot = dot.ok_or_else(|| DecodeError::field("the id of an event", "a dot", "none"))?;
    Ok((dot.try_into()?, EventId::from_uuid(decode_uuid("an event id", &id)?)))
}
