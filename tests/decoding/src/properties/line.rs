//! The lines of `es import` and `es export`.

use arbitrary::Unstructured;
use es_core::model::CommitPart;
use es_core::{Position, RecordedEvent, Revision};

use super::generated;
use es_core::schema::line::{self, Line};

/// The properties of lines:
///
/// - an imported line is exported as an equal line, and after that as the same bytes;
/// - an exported event is imported as the same event;
/// - an imported line is a JSON object;
/// - an error has a column within its line, and a message of one line.
pub fn lines(data: &[u8]) {
    // Some seeds have several lines.
    for text in data.split(|byte| *byte == b'\n') {
        match line::parse(text) {
            Ok(line) => {
                assert!(text.trim_ascii_start().starts_with(b"{"), "{}", String::from_utf8_lossy(text));
                check_line(&line);
            }
            Err(fault) => {
                let is_in_line = |column| (1..=text.len() + 1).contains(&column);
                assert!(fault.column.is_none_or(is_in_line), "{fault:?}");
                assert!(!fault.message.contains(char::is_control), "{fault:?}");
            }
        }
    }
    let Ok(event) = generated::event(&mut Unstructured::new(data)) else { return };
    let text = written(&event);
    let line = line::parse(&text).unwrap_or_else(|fault| panic!("{}: {fault:?}", String::from_utf8_lossy(&text)));
    assert_eq!(line, as_line(&event), "{}", String::from_utf8_lossy(&text));
    assert_eq!(
        written(&recorded(&line)),
        written(&RecordedEvent { revision: Revision::FIRST, position: Position::FIRST, ..event })
    );
}

fn check_line(line: &Line) {
    let event = recorded(line);
    let text = written(&event);
    let again = line::parse(&text).unwrap_or_else(|fault| panic!("{}: {fault:?}", String::from_utf8_lossy(&text)));
    assert_eq!(again, as_line(&event), "{}", String::from_utf8_lossy(&text));
    assert_eq!(written(&recorded(&again)), text);
}

/// Returns the line without its end.
pub(crate) fn written(event: &RecordedEvent) -> Vec<u8> {
    let mut text = Vec::new();
    line::write(event, &mut text).expect("writes to memory");
    assert_eq!(text.pop(), Some(b'\n'));
    assert!(!text.contains(&b'\n') && !text.contains(&b'\r'), "{}", String::from_utf8_lossy(&text));
    text
}

/// Returns the event of a line as a store would record it.
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

/// Returns the line of an exported event.
fn as_line(event: &RecordedEvent) -> Line {
    Line {
        claims: 0,
        stream: event.stream.clone(),
        event: generated::as_new(event),
        has_id: true,
        position: Some(event.position.get()),
        recorded_at: Some(event.recorded_at),
        part: Some(event.part),
    }
}
