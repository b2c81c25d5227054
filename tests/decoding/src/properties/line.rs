//! Lines of `es import` and `es export`.

use arbitrary::Unstructured;
use es_core::model::CommitPart;
use es_core::{Position, RecordedEvent, Revision};

use super::made;
use crate::line::{self, Line};

/// Lines, with any bytes as lines and as the choices for an event:
///
/// - what is imported is exported as a line that is imported as the same, and from then on is the same line;
/// - what is exported is imported as it was;
/// - what is imported is an object, and a fault is somewhere on its line, and said in one.
pub fn lines(data: &[u8]) {
    // NOTE: a seed of many lines is read as what it is.
    for text in data.split(|byte| *byte == b'\n') {
        match line::parse(text) {
            Ok(line) => {
                assert!(text.trim_ascii_start().starts_with(b"{"), "{}", String::from_utf8_lossy(text));
                read(&line);
            }
            Err(fault) => {
                let is_on_it = |column| (1..=text.len() + 1).contains(&column);
                assert!(fault.column.is_none_or(is_on_it), "{fault:?}");
                assert!(!fault.message.contains(char::is_control), "{fault:?}");
            }
        }
    }
    let Ok(event) = made::stamped_event(&mut Unstructured::new(data)) else { return };
    let text = written(&event);
    let line = line::parse(&text).unwrap_or_else(|fault| panic!("{}: {fault:?}", String::from_utf8_lossy(&text)));
    assert_eq!(line, as_line(&event), "{}", String::from_utf8_lossy(&text));
    assert_eq!(
        written(&recorded(&line)),
        written(&RecordedEvent { revision: Revision::FIRST, position: Position::FIRST, ..event })
    );
}

fn read(line: &Line) {
    let event = recorded(line);
    let text = written(&event);
    let again = line::parse(&text).unwrap_or_else(|fault| panic!("{}: {fault:?}", String::from_utf8_lossy(&text)));
    assert_eq!(again, as_line(&event), "{}", String::from_utf8_lossy(&text));
    assert_eq!(written(&recorded(&again)), text);
}

/// The line, without its end, which nothing else on it may look like.
pub(crate) fn written(event: &RecordedEvent) -> Vec<u8> {
    let mut text = Vec::new();
    line::write(event, &mut text).expect("memory takes it");
    assert_eq!(text.pop(), Some(b'\n'));
    assert!(!text.contains(&b'\n') && !text.contains(&b'\r'), "{}", String::from_utf8_lossy(&text));
    text
}

/// The event of a line as a store would record it.
fn recorded(line: &Line) -> RecordedEvent {
    let Line { stream, event, recorded_at, part, .. } = line.clone();
    let recorded_at = es_core::__private::to_stored_precision(recorded_at.unwrap_or_default());
    RecordedEvent {
        position: Position::FIRST,
        stream,
        revision: Revision::FIRST,
        recorded_at,
        occurred_at: event.occurred_at.map_or(recorded_at, es_core::__private::to_stored_precision),
        part: part.unwrap_or(CommitPart { index: 0, size: 1 }),
        data: event.data,
    }
}

/// What an exported event is as a line.
fn as_line(event: &RecordedEvent) -> Line {
    Line {
        claims: 0,
        stream: event.stream.clone(),
        event: made::as_new(event),
        position: Some(event.position.get()),
        recorded_at: Some(event.recorded_at),
        part: Some(event.part),
    }
}
