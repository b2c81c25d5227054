//! The events that all contenders write and read: lines of an order, about 200 bytes of JSON.

use std::io::Write as _;

use es_core::prelude::*;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The wire name of nine events in ten.
pub const ADDED: &str = "line-added";
/// The wire name of one event in ten.
pub const REMOVED: &str = "line-removed";
/// The category of the streams.
pub const CATEGORY: &str = "order";

/// The content of both kinds of event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The number of the event in its stream or in the run. The first field, where [`number`] finds it.
    pub number: u64,
    /// The article.
    pub sku: String,
    /// The number of articles.
    pub quantity: u32,
    /// The price of one article.
    pub cents: u64,
    /// Fills the payload with digits that do not compress well.
    pub note: String,
}

/// One event to append.
#[derive(Debug, Clone)]
pub struct Sample {
    /// [`ADDED`] or [`REMOVED`].
    pub event_type: &'static str,
    /// JSON of a [`Line`].
    pub payload: Vec<u8>,
    /// The tag of the event.
    pub tag: String,
}

/// The assignment of tags to events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tagging {
    /// This number of tags, in turn over streams and event numbers.
    Spread(u64),
    /// A tag for each stream.
    PerStream,
}

impl Tagging {
    /// Returns the tag of an event.
    #[must_use]
    pub fn tag(self, stream: u64, number: u64) -> String {
        match self {
            Self::Spread(tags) => format!("customer:{}", (stream + number) % tags.max(1)),
            Self::PerStream => format!("order:{stream}"),
        }
    }
}

/// Returns the event with this number in this stream, with a payload of `bytes` bytes or the minimum.
#[must_use]
pub fn sample(stream: u64, number: u64, bytes: usize, tagging: Tagging) -> Sample {
    let event_type = if number % 10 == 9 { REMOVED } else { ADDED };
    Sample { event_type, payload: payload(stream, number, bytes), tag: tagging.tag(stream, number) }
}

/// The hexadecimal digits of each byte.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 0xf]];
        byte += 1;
    }
    pairs
};

/// Returns a line as JSON. Its time is part of each measurement, so the note is not formatted number by number.
fn payload(stream: u64, number: u64, bytes: usize) -> Vec<u8> {
    const END: &[u8] = b"\"}";
    let (quantity, cents) = (number % 5 + 1, number % 1000);
    let mut json = Vec::with_capacity(bytes + 16);
    // Writing to a vector cannot fail.
    let _ = write!(
        json,
        "{{\"number\":{number},\"sku\":\"A-{:05}\",\"quantity\":{quantity},\"cents\":{cents},\"note\":\"",
        stream % 100_000
    );
    let end = bytes.saturating_sub(END.len()).max(json.len());
    let mut digits = stream.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number.wrapping_mul(0xD1B5_4A32_D192_ED03) | 1;
    while json.len() < end {
        // xorshift: fast, and equal for all contenders.
        digits ^= digits << 13;
        digits ^= digits >> 7;
        digits ^= digits << 17;
        for byte in digits.to_be_bytes() {
            json.extend_from_slice(&HEX[usize::from(byte)]);
        }
    }
    json.truncate(end);
    json.extend_from_slice(END);
    json
}

/// Returns the number of the event in a payload.
#[must_use]
pub fn number(payload: &[u8]) -> Option<u64> {
    let digits = payload.strip_prefix(b"{\"number\":")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// The state of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Folded {
    /// The number of events.
    pub events: u64,
    /// The sum of all lines.
    pub cents: u64,
}

impl Folded {
    /// Decodes an event and adds it.
    ///
    /// # Errors
    /// Returns a [`Failure`] if the payload is not a line as JSON.
    pub fn add_encoded(&mut self, event_type: &str, payload: &[u8]) -> Result<(), Failure> {
        let line: Line =
            serde_json::from_slice(payload).map_err(|error| Failure::caused_by("decode an event", &error))?;
        self.add(event_type, &line);
        Ok(())
    }

    /// Adds a decoded event.
    pub fn add(&mut self, event_type: &str, line: &Line) {
        self.events += 1;
        let sum = line.cents * u64::from(line.quantity);
        self.cents = if event_type == ADDED { self.cents.wrapping_add(sum) } else { self.cents.wrapping_sub(sum) };
    }
}

/// The events as a type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
pub(crate) enum OrderEvent {
    #[event(name = "line-added")]
    Added(Line),
    #[event(name = "line-removed")]
    Removed(Line),
}

/// The aggregate of typed loads.
#[derive(Debug, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderEvent, snapshot(every = 1))]
pub(crate) struct Order {
    events: u64,
    cents: u64,
}

impl Order {
    pub(crate) fn folded(&self) -> Folded {
        Folded { events: self.events, cents: self.cents }
    }
}

impl Evolve for Order {
    fn initial(_: &u64) -> Self {
        Self { events: 0, cents: 0 }
    }

    fn evolve(&mut self, event: &OrderEvent, _: &EventContext<'_>) {
        let mut folded = self.folded();
        match event {
            OrderEvent::Added(line) => folded.add(ADDED, line),
            OrderEvent::Removed(line) => folded.add(REMOVED, line),
        }
        (self.events, self.cents) = (folded.events, folded.cents);
    }
}

/// The command of the latency workload.
#[derive(Debug, Clone)]
pub(crate) struct AddLine(pub(crate) Line);

impl Decide<AddLine> for Order {
    type Rejection = &'static str;

    fn decide(&self, AddLine(line): AddLine, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, &'static str> {
        if line.quantity == 0 {
            return Err("expected at least one article");
        }
        Ok(OrderEvent::Added(line).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_a_line_of_the_requested_size() {
        for bytes in [120, 200, 201, 1000] {
            let sample = sample(7, 19, bytes, Tagging::PerStream);
            assert_eq!(sample.payload.len(), bytes);
            let line: Line = serde_json::from_slice(&sample.payload).unwrap();
            assert_eq!((line.number, sample.event_type), (19, REMOVED));
            assert_eq!(number(&sample.payload), Some(19));
        }
        assert!(serde_json::from_slice::<Line>(&sample(7, 8, 1, Tagging::PerStream).payload).is_ok());
    }

    #[test]
    fn raw_and_typed_folding_agree() {
        let mut raw = Folded::default();
        let mut typed = Order { events: 0, cents: 0 };
        let records: Vec<_> = (0..20).map(|n| sample(1, n, 200, Tagging::PerStream)).collect();
        for sample in &records {
            raw.add_encoded(sample.event_type, &sample.payload).unwrap();
            let line: Line = serde_json::from_slice(&sample.payload).unwrap();
            let mut folded = typed.folded();
            folded.add(sample.event_type, &line);
            (typed.events, typed.cents) = (folded.events, folded.cents);
        }
        assert_eq!(raw, typed.folded());
        assert_eq!(raw.events, 20);
    }

    #[test]
    fn tags_are_spread_or_belong_to_a_stream() {
        assert_eq!(Tagging::Spread(100).tag(3, 98), "customer:1");
        assert_eq!(Tagging::PerStream.tag(3, 98), "order:3");
    }
}
