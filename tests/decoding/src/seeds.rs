//! Generated inputs for tests and fuzzing.

use arbitrary::Unstructured;
use es_core::RecordedEvent;
use es_core::model::ContentType;

use crate::properties::{frame_of, generated, segment_of, wire_frame_of};
use es_core::schema::line;

/// The property that an input is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// [`lines`](crate::properties::lines)
    Lines,
    /// [`imports`](crate::properties::imports)
    Imports,
    /// [`frames`](crate::properties::frames)
    Frames,
    /// [`log_records`](crate::properties::log_records)
    LogRecords,
    /// [`segments`](crate::properties::segments)
    Segments,
    /// [`wire_frames`](crate::properties::wire_frames)
    WireFrames,
    /// [`sessions`](crate::properties::sessions)
    Sessions,
}

/// Returns some dozens of inputs.
#[must_use]
pub fn seeds(target: Target) -> Vec<Vec<u8>> {
    let choices = (0..24).map(choices);
    match target {
        Target::Imports => choices.chain(files()).collect(),
        Target::LogRecords => choices.collect(),
        Target::Segments => {
            let segments: Vec<_> = (0..24).map(|seed| segment_of(&self::choices(seed).repeat(3))).collect();
            choices.chain(segments).collect()
        }
        Target::WireFrames => {
            let frames: Vec<_> = (0..24).map(|seed| wire_frame_of(&self::choices(seed))).collect();
            choices.chain(frames).collect()
        }
        // A session needs more choices than a value.
        Target::Sessions => (0..24).map(|seed| self::choices(seed).repeat(3)).collect(),
        Target::Frames => {
            let frames: Vec<_> = (0..24).map(|seed| frame_of(&self::choices(seed))).collect();
            choices.chain(frames).collect()
        }
        Target::Lines => {
            let written = events().into_iter().map(|event| {
                let mut text = Vec::new();
                line::write(&event, &mut text).expect("writes to memory");
                text
            });
            let short = [
                r#"{"stream":"a-1","type":"t","data":null}"#.to_owned(),
                r#"{"stream":"a-1","type":"t","content_type":"text/plain","data_base64":"aGk="}"#.to_owned(),
                [
                    r#"{"stream":"a-1","type":"t","data":{"n": 1.0},"commit":{"index":0,"size":2},"#,
                    r#""occurred_at":"2016-12-31T23:59:60Z"}"#,
                ]
                .concat(),
            ];
            choices.chain(written).chain(short.map(String::into_bytes)).collect()
        }
    }
}

/// Returns pseudorandom bytes from splitmix64: "Fast Splittable Pseudorandom Number Generators", Steele et al. 2014.
fn choices(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb).to_le_bytes()
    };
    // Names consist of printable characters, so every second input has only these.
    let words = 24 + seed as usize % 40;
    let bytes = (0..words).flat_map(|_| next());
    if seed.is_multiple_of(2) { bytes.collect() } else { bytes.map(|byte| byte % 96 + 32).collect() }
}

fn events() -> Vec<RecordedEvent> {
    let generated = (0..24).filter_map(|seed| generated::event(&mut Unstructured::new(&choices(seed))).ok());
    generated
        .map(|mut event| {
            event.data.content_type = ContentType::Json;
            event
        })
        .collect()
}

/// Returns files of complete and incomplete commits. The first byte of a file sets the greatest length of its lines.
fn files() -> Vec<Vec<u8>> {
    let line = |id: u32, more: &str| {
        let event_id = format!("00000000-0000-8000-8000-{id:012}");
        format!(r#"{{"stream":"a-{}","type":"t","id":"{event_id}","data":{id}{more}}}"#, id % 2)
    };
    let part = |id, index, size| line(id, &format!(r#","commit":{{"index":{index},"size":{size}}}"#));
    let at = |line: String, day: u32| {
        line.replace("\"data\"", &format!(r#""recorded_at":"2016-12-{day}T23:59:60Z","data""#))
    };
    let mark = "\u{feff}".to_owned();
    let files = [
        [line(1, ""), at(line(2, ""), 31), line(3, r#","tags":["a"]"#)].join("\n"),
        [line(1, ""), part(2, 0, 2), part(3, 1, 2), line(4, "")].join("\n"),
        [mark.clone() + &part(1, 0, 3), part(2, 1, 3), String::new(), part(3, 2, 3)].join("\r\n"),
        [part(1, 0, 2), part(1, 1, 2), part(2, 0, 2), line(3, ""), part(4, 0, 2)].join("\n"),
        [part(1, 0, 3), part(2, 1, 2), line(3, ""), mark + &line(4, "")].join("\n"),
        [at(part(1, 0, 2), 30), at(part(2, 1, 2), 31)].join("\n"),
        // Spaces up to the greatest length of a line, and something else after them.
        line(1, "") + &" ".repeat(2_000) + &line(2, ""),
        " ".repeat(2_000) + &line(1, ""),
        [r#"{"stream":"a","x\ny":1}"#.to_owned(), line(1, r#","content_type":"\u001b""#)].join("\n"),
    ];
    files.into_iter().map(|file| format!("\u{7f}{file}\n").into_bytes()).collect()
}
