//! The commits of a child. The content of each commit is a function of its name.

use es_core::model::{Table, Tag, UniqueKey};
use es_core::{Commit, EventId, EventType, ExpectedRevision, NewEvent, StreamId};
use uuid::Uuid;

use super::Random;

/// Number of concurrent writers of a child.
pub const WRITERS: u16 = 4;
/// The types of events.
pub const TYPES: [&str; 3] = ["placed", "shipped", "paid"];
/// The categories of streams.
pub const CATEGORIES: [&str; 2] = ["account", "shared"];

/// The name of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The number of the child, from 1.
    pub run: u32,
    /// The number of the writer.
    pub writer: u16,
    /// The number of the commit of this writer.
    pub number: u32,
}

impl Name {
    /// Returns the id of an event of this commit.
    #[must_use]
    pub fn id(self, index: u32) -> EventId {
        let (high, low) = (u64::from(self.run) << 32 | u64::from(self.writer), u64::from(self.number) << 32);
        Uuid::from_u64_pair(high, low | u64::from(index)).into()
    }

    /// Returns the name of the commit that an event belongs to.
    #[must_use]
    pub fn of(id: EventId) -> Self {
        let (high, low) = id.as_uuid().as_u64_pair();
        // An id that was not created by `id` gives the name of a different commit, which the comparison detects.
        let part = |bits: u64| u32::try_from(bits & 0xffff_ffff).unwrap_or_default();
        let writer = u16::try_from(part(high)).unwrap_or(u16::MAX);
        Self { run: part(high >> 32), writer, number: part(low >> 32) }
    }

    /// Returns the unique key that the commit claims.
    #[must_use]
    pub fn key(self) -> UniqueKey {
        UniqueKey::new("commit", self.to_string()).expect("a key")
    }

    /// Returns the value of the row with the last commit of a writer.
    #[must_use]
    pub fn row(self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    /// Returns the commit: 1 to 12 events for one or two streams, with tags, a row and a unique key.
    #[must_use]
    pub fn commit(self) -> Commit {
        let (high, low) = self.id(0).as_uuid().as_u64_pair();
        let mut random = Random::new(high.rotate_left(17) ^ low);
        let (own, shared) = (own_stream(self.writer, random.below(3)), shared_stream(random.below(2)));
        let main = if random.once_in(4) { shared.clone() } else { own };
        let mut commit = Commit::new().expect(main.clone(), ExpectedRevision::Any);
        for index in 0..random.pick(&[1, 1, 1, 1, 1, 2, 3, 12]) {
            let stream = if index > 0 && random.once_in(5) { shared.clone() } else { main.clone() };
            let event = self.event(index, &mut random);
            let event = if index == 0 { event.claiming(self.key()) } else { event };
            commit = commit.append(stream, event);
        }
        commit.put_row(last_rows(), row_key(self.writer), self.row())
    }

    fn event(self, index: u32, random: &mut Random) -> NewEvent {
        let len = if random.once_in(60) { 40_000 } else { 10 + random.below(400) };
        let filling: String = (0..len / 8).map(|_| format!("{:08x}", random.next_u64() & 0xffff_ffff)).collect();
        let payload = format!(r#"{{"commit":"{self}","index":{index},"filling":"{filling}"}}"#);
        let event_type = EventType::new(random.pick(&TYPES)).expect("a type");
        let event = NewEvent::json(event_type, payload).with_id(self.id(index)).tagged(writer_tag(self.writer));
        if random.once_in(2) { event.tagged(other_tag(random.below(5))) } else { event }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.run, self.writer, self.number)
    }
}

/// Returns a stream to which only one writer commits.
fn own_stream(writer: u16, number: u64) -> StreamId {
    StreamId::new(format!("account-{writer}.{number}")).expect("a name")
}

/// Returns a stream to which all writers commit.
fn shared_stream(number: u64) -> StreamId {
    StreamId::new(format!("shared-{number}")).expect("a name")
}

/// Returns all streams.
pub fn streams() -> impl Iterator<Item = StreamId> {
    let own = (0..WRITERS).flat_map(|writer| (0..3).map(move |number| own_stream(writer, number)));
    own.chain((0..2).map(shared_stream))
}

fn writer_tag(writer: u16) -> Tag {
    Tag::new(format!("writer:{writer}")).expect("a tag")
}

fn other_tag(number: u64) -> Tag {
    Tag::new(format!("other:{number}")).expect("a tag")
}

/// Returns all tags.
pub fn tags() -> impl Iterator<Item = Tag> {
    (0..WRITERS).map(writer_tag).chain((0..5).map(other_tag))
}

/// Returns the table with the last commit of each writer.
#[must_use]
pub fn last_rows() -> Table {
    Table::new("last").expect("a table")
}

/// Returns the key of a writer in [`last_rows`].
#[must_use]
pub fn row_key(writer: u16) -> Vec<u8> {
    writer.to_be_bytes().to_vec()
}
