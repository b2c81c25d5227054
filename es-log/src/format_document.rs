//! Renders the tables of the log in `docs/storage-format.md` from the constants, and compares them with the file.

use std::fmt::Write as _;
use std::path::Path;

use crate::frame::EntryKind;
use crate::layout::{
    BLOCK_EVENTS, CHUNK_LEN, COMPRESSED_VERSION, ENTRY_FIELDS, EVENT_FIELDS, FORMAT_VERSION, FRAME_FIELDS, FieldTable,
    MARK_FIELDS, MARK_FILE, MARK_SLOTS, MARK_STEP, RECORD_FIELDS, SEGMENT_FIELDS, TRAILER_FIELDS,
};
use crate::record;
use crate::segment;

/// Set to write the tables instead of comparing them.
const UPDATE: &str = "ES_UPDATE_DOCS";

fn fixed(fields: &FieldTable) -> String {
    let mut table = String::from("| offset | length | field |\n|---:|---:|---|\n");
    let mut offset = 0;
    for (name, length) in fields {
        let _ = writeln!(table, "| {offset} | {length} | {name} |");
        offset += length;
    }
    table
}

fn segment() -> String {
    format!(
        "Format version {FORMAT_VERSION}. The first segment is `{}`.\n\n{}",
        segment::file_name(1),
        fixed(SEGMENT_FIELDS)
    )
}

fn kinds() -> String {
    let kinds = [
        ("frame", EntryKind::Commits.code(), "commits"),
        ("frame", EntryKind::Blank.code(), "blank: no records"),
        ("frame", EntryKind::Membership.code(), "membership: opaque records only"),
        ("record", record::KIND_EVENT, "event"),
        ("record", record::KIND_TOMBSTONE, "tombstone of a removed event"),
        ("record", record::KIND_ROW, "change of a row"),
        ("record", record::KIND_KEY, "change of a unique key"),
        ("record", record::KIND_OPAQUE, "opaque bytes"),
    ];
    let mut table = String::from("| kind of | code | meaning |\n|---|---:|---|\n");
    for (of, code, meaning) in kinds {
        let _ = writeln!(table, "| {of} | {code} | {meaning} |");
    }
    table
}

fn event() -> String {
    let mut table = String::from("| field | encoding |\n|---|---|\n");
    for (name, encoding) in EVENT_FIELDS {
        let _ = writeln!(table, "| {name} | {encoding} |");
    }
    table
}

fn footer() -> String {
    format!("A block has the offsets of {BLOCK_EVENTS} events, the last one of fewer.\n\n{}", fixed(TRAILER_FIELDS))
}

fn compressed() -> String {
    let (version, length, table) = (COMPRESSED_VERSION, CHUNK_LEN, fixed(ENTRY_FIELDS));
    format!("Format version {version}. A chunk has {length} bytes of the content, the last one fewer.\n\n{table}")
}

fn mark() -> String {
    format!("The file `{MARK_FILE}` has {MARK_SLOTS} slots, one every {MARK_STEP} bytes.\n\n{}", fixed(MARK_FIELDS))
}

/// Replaces the tables between the markers of the document.
fn rendered(mut document: String) -> String {
    let tables = [
        ("log-segment", segment()),
        ("log-frame", fixed(FRAME_FIELDS)),
        ("log-record", fixed(RECORD_FIELDS)),
        ("log-kinds", kinds()),
        ("log-event", event()),
        ("log-footer", footer()),
        ("log-compressed", compressed()),
        ("log-mark", mark()),
    ];
    for (name, table) in tables {
        let (begin, end) = (format!("<!-- begin: {name} -->\n"), format!("<!-- end: {name} -->"));
        let from = document.find(&begin).unwrap_or_else(|| panic!("the document has no {begin}")) + begin.len();
        let to = from + document[from..].find(&end).unwrap_or_else(|| panic!("the document has no {end}"));
        document.replace_range(from..to, &format!("\n{table}\n"));
    }
    document
}

#[test]
fn the_document_matches_the_constants_of_the_log() {
    // tests/log-schedules includes this file from another directory.
    let above =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|directory| directory.join("docs/storage-format.md"));
    let path = above.into_iter().find(|path| path.is_file()).unwrap();
    let document = std::fs::read_to_string(&path).unwrap();
    let rendered = rendered(document.clone());
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &rendered).unwrap();
    } else {
        let differs = document.lines().zip(rendered.lines()).find(|(found, expected)| found != expected);
        assert!(
            document == rendered,
            "docs/storage-format.md differs from the code, first at {differs:?}; if the format change is intended, \
             run: {UPDATE}=1 cargo test --workspace format_document"
        );
    }
}
