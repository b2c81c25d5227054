//! Posting lists: find the positions that match a query in the indexes, without reading records.
//!
//! ```text
//!   query ── or ──┬─ item ── and ──┬─ categories ── or ── list, list, ...
//!                 │                ├─ types ─────── or ── list, list, ...
//!                 │                ├─ tag ─────────────── list
//!                 └─ item ...      └─ tag ─────────────── list
//! ```
//!
//! A list is a scan of the index keys of one name, in order of position. "Or" returns the nearest match of its parts.
//! "And" is a leapfrog join (Veldhuizen, 2012): each part seeks the position of the part before, until all agree, so
//! that the cost depends on the shortest list. No index key is read twice.

use es_core::store::Direction;
use es_core::store::{Query, QueryItem};
use es_core::{Position, RecordedEvent, StoreError};

use crate::engine::database::place_of;
use crate::schema::Cf;

/// How many seeks of its parts a leapfrog join makes before it pauses.
const MAX_LEAPS: u32 = 10_000;
/// The result of [`Cursor::seek`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeekResult {
    /// The nearest match.
    Match(Position),
    /// No match before this position; seek it to continue. Pauses bound the time of a call.
    Pause(Position),
    /// No more matches.
    End,
}

/// Returns whether `this` comes before `that` in a direction.
fn precedes(direction: Direction, this: Position, that: Position) -> bool {
    match direction {
        Direction::Forward => this < that,
        Direction::Backward => this > that,
    }
}

/// Returns the position after another in a direction.
pub(crate) fn successor(direction: Direction, position: Position) -> Option<Position> {
    match direction {
        Direction::Forward => Some(position.next()).filter(|next| *next != position),
        Direction::Backward => position.previous(),
    }
}

/// Returns the position before another in a direction.
pub(crate) fn predecessor(direction: Direction, position: Position) -> Option<Position> {
    match direction {
        Direction::Forward => position.previous(),
        Direction::Backward => successor(Direction::Forward, position),
    }
}

impl SeekResult {
    /// Returns the position of the match or of the pause.
    fn position(self) -> Option<Position> {
        match self {
            Self::Match(position) | Self::Pause(position) => Some(position),
            Self::End => None,
        }
    }

    /// Returns the result of the union of two cursors from their results for the same target.
    fn nearer(self, other: Self, direction: Direction) -> Self {
        match (self.position(), other.position()) {
            (None, _) => other,
            (_, None) => self,
            (Some(this), Some(that)) if this == that => {
                // A match takes precedence over a pause at the same position.
                if matches!(self, Self::Match(_)) { self } else { other }
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

/// The positions up to a head that match a query or a part of one.
pub(crate) enum Cursor<'a> {
    /// Every position up to the head.
    All { head: Position },
    /// The positions of one category, type or tag.
    List(Box<dyn PostingList + 'a>),
    /// The positions of any part. Each part has its last result.
    Or(Vec<(Cursor<'a>, Option<SeekResult>)>),
    /// The positions that all parts have.
    And(Vec<Cursor<'a>>),
}

/// The positions of one category, type or tag, in a direction.
pub(crate) trait PostingList {
    /// Returns the first position at or after `target` in the direction; `None` after the last. No target may come
    /// before the previous one.
    fn seek(&mut self, target: Position) -> Result<Option<Position>, StoreError>;
}

/// Returns the first of ascending positions at or after `target` in a direction.
pub(crate) fn nearest(positions: &[Position], direction: Direction, target: Position) -> Option<Position> {
    match direction {
        Direction::Forward => positions.get(positions.partition_point(|position| *position < target)).copied(),
        Direction::Backward => {
            let after = positions.partition_point(|position| *position <= target);
            positions.get(after.checked_sub(1)?).copied()
        }
    }
}

/// The lists of an index.
pub(crate) trait PostingLists {
    /// Returns the positions of a name up to `head`.
    fn list(&self, cf: Cf, name: &str, direction: Direction, head: Position) -> Result<Cursor<'_>, StoreError>;
}

impl<'a> Cursor<'a> {
    /// Creates a cursor over the positions up to `head` that match a query.
    ///
    /// The cursor holds an iterator of some kilobytes for each name of the query.
    pub(crate) fn new(
        lists: &'a impl PostingLists,
        query: &Query,
        direction: Direction,
        head: Position,
    ) -> Result<Self, StoreError> {
        let Some(items) = query.items() else { return Ok(Self::All { head }) };
        if items.iter().any(QueryItem::is_unrestricted) {
            return Ok(Self::All { head });
        }
        let of_item = |item: &QueryItem| -> Result<Self, StoreError> {
            let list = |cf, name: &str| lists.list(cf, name, direction, head);
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

    pub(crate) fn or(parts: impl Iterator<Item = Result<Self, StoreError>>) -> Result<Self, StoreError> {
        let mut parts = parts.collect::<Result<Vec<_>, _>>()?;
        Ok(if parts.len() == 1 {
            parts.remove(0)
        } else {
            Self::Or(parts.into_iter().map(|part| (part, None)).collect())
        })
    }

    /// Returns the first match at or after `target` in the direction. No target may come before the previous one.
    pub(crate) fn seek(&mut self, direction: Direction, target: Position) -> Result<SeekResult, StoreError> {
        match self {
            Self::All { head } => Ok(match direction {
                Direction::Forward if target > *head => SeekResult::End,
                Direction::Forward => SeekResult::Match(target),
                Direction::Backward => SeekResult::Match(target.min(*head)),
            }),
            Self::List(list) => Ok(list.seek(target)?.map_or(SeekResult::End, SeekResult::Match)),
            Self::Or(parts) => {
                let mut nearest = SeekResult::End;
                for (part, last) in parts {
                    let found = match *last {
                        // The last result of a part is valid until the target passes it.
                        Some(SeekResult::End) => SeekResult::End,
                        Some(SeekResult::Match(at)) if !precedes(direction, at, target) => SeekResult::Match(at),
                        Some(SeekResult::Pause(at)) if precedes(direction, target, at) => SeekResult::Pause(at),
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

/// Seeks the parts in turn, each to the position that the part before found, until all of them have the same position.
fn leapfrog(parts: &mut [Cursor<'_>], direction: Direction, target: Position) -> Result<SeekResult, StoreError> {
    let mut candidate = target;
    let mut agreed = 0;
    let count = parts.len();
    for leap in 0.. {
        let Some(part) = parts.get_mut(leap as usize % count.max(1)) else { return Ok(SeekResult::End) };
        match part.seek(direction, candidate)? {
            SeekResult::End => return Ok(SeekResult::End),
            SeekResult::Pause(at) => return Ok(SeekResult::Pause(at)),
            SeekResult::Match(at) if at == candidate => agreed += 1,
            SeekResult::Match(at) => (candidate, agreed) = (at, 1),
        }
        if agreed == count {
            return Ok(SeekResult::Match(candidate));
        }
        // A pause must be after the target, or a caller that continues from it would never make progress.
        if leap >= MAX_LEAPS && candidate != target {
            break;
        }
    }
    Ok(SeekResult::Pause(candidate))
}

/// Checks that an event that the indexes returned matches the query. Otherwise an index is damaged.
pub(crate) fn check_matches(query: &Query, event: &RecordedEvent) -> Result<(), StoreError> {
    if query.matches_event(event) {
        return Ok(());
    }
    let (stream, event_type) = (&event.stream, &event.data.event_type);
    let detail = format!(
        "expected an event that matches the query, as in the index, \
         found type {event_type:?} in stream {stream:?}"
    );
    Err(StoreError::damaged(place_of(event.position), detail))
}

/// Returns the first position after `after` and up to `head` that matches a query and that `is_included` accepts.
pub(crate) fn first_match(
    lists: &impl PostingLists,
    query: &Query,
    after: Option<Position>,
    head: Option<Position>,
    mut is_included: impl FnMut(Position) -> Result<bool, StoreError>,
) -> Result<Option<Position>, StoreError> {
    let mut target = Position::following(after);
    let Some(head) = head.filter(|head| target <= *head) else { return Ok(None) };
    let mut cursor = Cursor::new(lists, query, Direction::Forward, head)?;
    loop {
        match cursor.seek(Direction::Forward, target)? {
            SeekResult::Match(found) if is_included(found)? => return Ok(Some(found)),
            SeekResult::Match(found) => match successor(Direction::Forward, found) {
                Some(next) => target = next,
                None => return Ok(None),
            },
            SeekResult::Pause(at) => target = at,
            SeekResult::End => return Ok(None),
        }
    }
}
