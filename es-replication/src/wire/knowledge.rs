//! Conversions of knowledge and filters.

use es_core::StreamId;
use es_core::model::{Category, OriginId, VectorClock};

use crate::filter::StreamFilter;
use crate::knowledge::Knowledge;
use crate::wire::error::DecodeError;
use crate::wire::event::name;
use crate::wire::proto;

impl From<&Knowledge> for proto::WireKnowledge {
    fn from(knowledge: &Knowledge) -> Self {
        let withheld = knowledge.clock().iter().map(|dot| {
            let mut end = 0;
            let deltas = knowledge.withheld(dot.origin).flat_map(|range| {
                let (first, last) = range.into_inner();
                [first - std::mem::replace(&mut end, last), last - first]
            });
            let (deltas, is_exact) = (deltas.collect(), knowledge.is_exact(dot.origin));
            proto::WireWithheld { origin: dot.origin.get(), deltas, is_exact }
        });
        let withheld = withheld.filter(|withheld| !withheld.deltas.is_empty()).collect();
        Self { clock: Some(knowledge.clock().into()), withheld }
    }
}

impl TryFrom<proto::WireKnowledge> for Knowledge {
    type Error = DecodeError;

    fn try_from(knowledge: proto::WireKnowledge) -> Result<Self, DecodeError> {
        const FIELD: &str = "the withheld events of a node";
        let proto::WireKnowledge { clock, withheld } = knowledge;
        let clock = VectorClock::try_from(clock.unwrap_or_default())?;
        if !withheld.is_sorted_by(|before, after| before.origin < after.origin) {
            return Err(DecodeError::field(FIELD, "ascending origins", "another order"));
        }
        let mut knowledge = Self::from(clock);
        for proto::WireWithheld { origin, deltas, is_exact } in withheld {
            let origin = OriginId::new(origin);
            let through = knowledge.clock().get(origin).map_or(0, std::num::NonZeroU64::get);
            let (pairs, rest) = deltas.as_chunks::<2>();
            if pairs.is_empty() || pairs.len() > Self::MAX_RANGES || !rest.is_empty() {
                let numbers = format_args!("{} numbers", deltas.len());
                return Err(DecodeError::field(FIELD, "1 to 16 pairs of numbers for an origin", numbers));
            }
            let mut end = 0_u64;
            for [distance, length] in pairs {
                // Two ranges without a sequence between them are one.
                let is_separate = *distance > u64::from(end > 0);
                let first = end.checked_add(*distance).filter(|_| is_separate);
                let last = first.and_then(|first| first.checked_add(*length)).filter(|last| *last <= through);
                let (Some(first), Some(last)) = (first, last) else {
                    let found = format_args!("a distance of {distance} and a length of {length}");
                    return Err(DecodeError::field(FIELD, "ascending ranges of known events", found));
                };
                knowledge.withhold(origin, first..=last);
                end = last;
            }
            if is_exact {
                knowledge.declare_exact(origin);
            }
        }
        Ok(knowledge)
    }
}

/// Converts a filter for sending. The filter that selects every stream is omitted.
pub(super) fn encode_filter(filter: &StreamFilter) -> Option<proto::WireFilter> {
    (!filter.selects_all()).then(|| proto::WireFilter {
        categories: filter.categories().map(|category| category.as_str().to_owned()).collect(),
        streams: filter.streams().map(|stream| stream.as_str().to_owned()).collect(),
    })
}

impl TryFrom<proto::WireFilter> for StreamFilter {
    type Error = DecodeError;

    fn try_from(filter: proto::WireFilter) -> Result<Self, DecodeError> {
        let proto::WireFilter { categories, streams } = filter;
        let is_ascending = |names: &[String]| names.is_sorted_by(|before, after| before < after);
        if !is_ascending(&categories) || !is_ascending(&streams) {
            return Err(DecodeError::field("a filter", "ascending names", "another order"));
        }
        let mut filter = Self::none();
        for category in &categories {
            filter = filter.category(name("a category", Category::new(category))?);
        }
        for stream in &streams {
            filter = filter.stream(name("a stream", StreamId::new(stream))?);
        }
        Ok(filter)
    }
}
