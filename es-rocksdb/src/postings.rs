//! Posting lists: which positions match a query, from the indexes alone.
//!
//! ```text
//!   query ── or ──┬─ item ── and ──┬─ categories ── or ── list, list, ...
//!                 │                ├─ types ─────── or ── list, list, ...
//!                 │                ├─ tag ─────────────── list
//!                 └─ item ...      └─ tag ─────────────── list
//! ```
//!
//! A list is one scan over the keys of a name, in order of position. "Or" takes the nearest of its parts; "and" lets its
//! parts leap over one another until they meet (the leapfrog join of Veldhuizen, 2012), so that its cost follows the
//! shortest list. Nothing is read but index keys, and nothing of them twice.

use es_core::store::Direction;
use es_core::store::{Query, QueryItem};
use es_core::{Position, StoreError};
use rocksdb::DBRawIterator;

use crate::database::{Database, Tier, bad_key, item};
use crate::key;
use crate::schema::Cf;

/// How many leaps one [`Cursor::seek`] makes before it reports how far it has come.
const MAX_LEAPS: u32 = 10_000;
/// How many steps a list goes forward before it leaps: a step costs a small part of a leap.
const MAX_STEPS: u32 = 8;

/// What a cursor found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sought {
    /// The nearest match.
    At(Position),
    /// Nothing before this position; seek it to go on. So that no single call takes long.
    Pause(Position),
    /// No match to the end.
    End,
}

/// The nearer of two positions in a direction.
fn precedes(direction: Direction, this: Position, that: Position) -> bool {
    match direction {
        Direction::Forward => this < that,
        Direction::Backward => this > that,
    }
}

/// The position behind another in a direction.
pub(crate) fn successor(direction: Direction, position: Position) -> Option<Position> {
    match direction {
        Direction::Forward => Some(position.next()).filter(|next| *next != position),
        Direction::Backward => position.previous(),
    }
}

/// The position before another in a direction.
pub(crate) fn predecessor(direction: Direction, position: Position) -> Option<Position> {
    match direction {
        Direction::Forward => position.previous(),
        Direction::Backward => successor(Direction::Forward, position),
    }
}

impl Sought {
    /// Where this ends a search: at a match or at a pause.
    fn position(self) -> Option<Position> {
        match self {
            Self::At(position) | Self::Pause(position) => Some(position),
            Self::End => None,
        }
    }

    /// Of two results for one target that of their union.
    fn nearer(self, other: Self, direction: Direction) -> Self {
        match (self.position(), other.position()) {
            (None, _) => other,
            (_, None) => self,
            (Some(this), Some(that)) if this == that => {
                // NOTE: a match at a position outweighs a pause there.
                if matches!(self, Self::At(_)) { self } else { other }
            }
            (Some(this), Some(that)) => {
                if precedes(direction, this, that) {
                    self
                } else {
                    other
                }
            }
        }
    }
}

/// The positions that match a query, or a part of one, within the log up to a head.
pub(crate) enum Cursor<'a> {
    /// Every position up to the head.
    All { head: Position },
    /// The positions of one name.
    List(Box<List<'a>>),
    /// What any of its parts has; each with what it found last.
    Or(Vec<(Cursor<'a>, Option<Sought>)>),
    /// What all of its parts have.
    And(Vec<Cursor<'a>>),
}

impl<'a> Cursor<'a> {
    /// A cursor over the positions up to `head` that match a query.
    ///
    /// Each name of the query costs an iterator of some kilobytes as long as the cursor lives.
    pub(crate) fn new(
        database: &'a Database,
        query: &Query,
        direction: Direction,
        head: Position,
    ) -> Result<Self, StoreError> {
        let Some(items) = query.items() else { return Ok(Self::All { head }) };
        if items.iter().any(QueryItem::is_unrestricted) {
            return Ok(Self::All { head });
        }
        let of_item = |item: &QueryItem| -> Result<Self, StoreError> {
            let list = |cf, name: &str| List::new(database, cf, name, direction, head).map(Box::new).map(Self::List);
            let mut parts = Vec::new();
            if !item.categories.is_empty() {
                parts.push(Self::or(item.categories.iter().map(|name| list(Cf::Categories, name.as_str())))?);
            }
            if !item.event_types.is_empty() {
                parts.push(Self::or(item.event_types.iter().map(|name| list(Cf::Types, name.as_str())))?);
            }
            for tag in &item.tags {
                parts.push(list(Cf::Tags, tag.as_str())?);
            }
            Ok(if parts.len() == 1 { parts.remove(0) } else { Self::And(parts) })
        };
        Self::or(items.iter().map(of_item))
    }

    fn or(parts: impl Iterator<Item = Result<Self, StoreError>>) -> Result<Self, StoreError> {
        let mut parts = parts.collect::<Result<Vec<_>, _>>()?;
        Ok(if parts.len() == 1 {
            parts.remove(0)
        } else {
            Self::Or(parts.into_iter().map(|part| (part, None)).collect())
        })
    }

    /// The first match at `target` or behind it. Targets must not go back.
    pub(crate) fn seek(&mut self, direction: Direction, target: Position) -> Result<Sought, StoreError> {
        match self {
            Self::All { head } => Ok(match direction {
                Direction::Forward if target > *head => Sought::End,
                Direction::Forward => Sought::At(target),
                Direction::Backward => Sought::At(target.min(*head)),
            }),
            Self::List(list) => Ok(list.seek(target)?.map_or(Sought::End, Sought::At)),
            Self::Or(parts) => {
                let mut nearest = Sought::End;
                for (part, last) in parts {
                    let found = match *last {
                        // NOTE: what a part found last holds until the target has passed it.
                        Some(Sought::End) => Sought::End,
                        Some(Sought::At(at)) if !precedes(direction, at, target) => Sought::At(at),
                        Some(Sought::Pause(at)) if precedes(direction, target, at) => Sought::Pause(at),
                        _ => *last.insert(part.seek(direction, target)?),
                    };
                    nearest = nearest.nearer(found, direction);
                }
                Ok(nearest)
            }
            Self::And(parts) => leapfrog(parts, direction, target),
        }
    }
}

/// Goes round the parts; each leaps to where the one before it stands, until one round moves none of them.
fn leapfrog(parts: &mut [Cursor<'_>], direction: Direction, target: Position) -> Result<Sought, StoreError> {
    let mut candidate = target;
    let mut agreed = 0;
    let count = parts.len();
    for leap in 0.. {
        let Some(part) = parts.get_mut(leap as usize % count.max(1)) else { return Ok(Sought::End) };
        match part.seek(direction, candidate)? {
            Sought::End => return Ok(Sought::End),
            Sought::Pause(at) => return Ok(Sought::Pause(at)),
            Sought::At(at) if at == candidate => agreed += 1,
            Sought::At(at) => (candidate, agreed) = (at, 1),
        }
        if agreed == count {
            return Ok(Sought::At(candidate));
        }
        // NOTE: a pause must be ahead of the target, or whoever goes on from it would never arrive.
        if leap >= MAX_LEAPS && candidate != target {
            break;
        }
    }
    Ok(Sought::Pause(candidate))
}

/// The positions of one category, type or tag.
pub(crate) struct List<'a> {
    keys: DBRawIterator<'a>,
    cf: Cf,
    name: String,
    prefix: Vec<u8>,
    direction: Direction,
    head: Position,
    /// Where the iterator stands; `None` before its first seek.
    at: Option<Position>,
    ended: bool,
}

impl<'a> List<'a> {
    fn new(
        database: &'a Database,
        cf: Cf,
        name: &str,
        direction: Direction,
        head: Position,
    ) -> Result<Self, StoreError> {
        let prefix = key::prefix(name);
        let keys = database.iterate(cf, prefix.clone(), Tier::Any)?;
        Ok(Self { keys, cf, name: name.to_owned(), prefix, direction, head, at: None, ended: false })
    }

    fn seek(&mut self, target: Position) -> Result<Option<Position>, StoreError> {
        let mut steps = 0;
        while !self.ended {
            match (self.at, self.direction) {
                (Some(at), direction) if !precedes(direction, at, target) => return Ok(Some(at)),
                (Some(_), Direction::Forward) if steps < MAX_STEPS => self.keys.next(),
                (Some(_), Direction::Backward) if steps < MAX_STEPS => self.keys.prev(),
                (_, Direction::Forward) => self.keys.seek(key::posting(&self.name, target)),
                // NOTE: the index may be ahead of the head that this read is bounded by.
                (_, Direction::Backward) => {
                    self.keys.seek_for_prev(key::posting(&self.name, target.min(self.head)));
                }
            }
            steps += 1;
            self.read_position()?;
        }
        Ok(None)
    }

    /// Takes note of where the iterator stands now.
    fn read_position(&mut self) -> Result<(), StoreError> {
        match item(&self.keys, self.cf)? {
            None => self.ended = true,
            Some((key, _)) => {
                let at = key::decode_posting(key, &self.prefix).map_err(|error| bad_key(self.cf, key, &error))?;
                self.at = Some(at);
                self.ended = at > self.head;
            }
        }
        Ok(())
    }
}

/// The first position behind `after`, up to `head`, that matches a query and counts.
pub(crate) fn first_match(
    database: &Database,
    query: &Query,
    after: Option<Position>,
    head: Option<Position>,
    mut counts: impl FnMut(Position) -> Result<bool, StoreError>,
) -> Result<Option<Position>, StoreError> {
    let mut target = Position::following(after);
    let Some(head) = head.filter(|head| target <= *head) else { return Ok(None) };
    let mut cursor = Cursor::new(database, query, Direction::Forward, head)?;
    loop {
        match cursor.seek(Direction::Forward, target)? {
            Sought::At(found) if counts(found)? => return Ok(Some(found)),
            Sought::At(found) => match successor(Direction::Forward, found) {
                Some(next) => target = next,
                None => return Ok(None),
            },
            Sought::Pause(at) => target = at,
            Sought::End => return Ok(None),
        }
    }
}
