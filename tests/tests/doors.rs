//! `es append` and `es import` accept the same texts for the same fields, as the same values.
//!
//! `examples/order-service/src/http/doors.rs` has the same properties for the order service.

use clap::Parser;
use es_cli::args::{AppendArgs, Cli, Command, Data};
use es_core::model::{Metadata, Tags};
use es_core::schema::line;
use es_core::{EventId, EventType, StreamId, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The fields of an event that both commands have.
#[derive(Debug, Clone)]
struct Texts {
    stream: String,
    event_type: String,
    id: String,
    version: String,
    tag: String,
    occurred_at: String,
    metadata: String,
    data: String,
}

type Fields = (StreamId, EventType, EventId, u32, Tags, Option<Timestamp>, Metadata, String);

impl Texts {
    fn valid() -> Self {
        let [stream, event_type, tag, version] = ["order-1", "placed", "k:v", "3"].map(ToOwned::to_owned);
        let [id, occurred_at] = ["00000000-0000-8000-8000-000000000001", "2026-01-31T12:00:00Z"].map(ToOwned::to_owned);
        let [metadata, data] = [r#"{"user":"ada"}"#, r#"{"n":1.0}"#].map(ToOwned::to_owned);
        Self { stream, event_type, id, version, tag, occurred_at, metadata, data }
    }

    fn command_line(&self) -> Option<Fields> {
        let Self { stream, event_type, id, version, tag, occurred_at, metadata, data } = self;
        let args = [
            "es".to_owned(),
            "append".to_owned(),
            format!("--type={event_type}"),
            format!("--id={id}"),
            format!("--version={version}"),
            format!("--tag={tag}"),
            format!("--occurred-at={occurred_at}"),
            format!("--metadata={metadata}"),
            format!("--data={data}"),
            "--".to_owned(),
            stream.clone(),
        ];
        let Command::Append(args) = Cli::try_parse_from(args).ok()?.command else { return None };
        let AppendArgs { stream, event_type, data, id, version, tag, metadata, occurred_at, .. } = args;
        let Data::Json(data) = data else { return None };
        let tags = tag.into_iter().collect();
        Some((stream, event_type, id?, version, tags, occurred_at, metadata.unwrap_or_default(), data))
    }

    fn line(&self) -> Option<Fields> {
        let Self { stream, event_type, id, version, tag, occurred_at, metadata, data } = self;
        let names = json!({"stream": stream, "type": event_type, "id": id, "tags": [tag], "occurred_at": occurred_at});
        let names = names.to_string();
        let names = names.strip_suffix('}')?;
        let text = format!("{names},\"version\":{version},\"metadata\":{metadata},\"data\":{data}}}");
        let line = line::parse(text.as_bytes()).ok()?;
        let data = line.event.data;
        let payload = String::from_utf8(data.payload.to_vec()).ok()?;
        let occurred_at = line.event.occurred_at;
        Some((line.stream, data.event_type, data.id, data.version, data.tags, occurred_at, data.metadata, payload))
    }

    fn check(&self) {
        assert_eq!(self.command_line(), self.line(), "command line and line: {self:?}");
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z:-]{0,8}", "\\PC{0,8}", "\\PC{120,260}", "[a\\n\\x1b\\u{9b} \"\\\\=,]{0,6}", "es\\.[a-z-]{0,12}"]
}

/// Times in microseconds: a person is refused others, and an import truncates them.
fn time() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "20[0-9]{2}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-6]5(\\.[0-9]{1,6})?(Z|z|[+-][0-2][0-9]:?00)",
        1 => "[-+0-9:TZ. ]{0,24}",
    ]
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => any::<u128>().prop_map(|number| EventId::from_uuid(uuid::Uuid::from_u128(number)).to_string()),
        1 => any::<u128>().prop_map(|number| format!("{number:032X}")),
        1 => any::<u128>().prop_map(|number| format!("{{{}}}", uuid::Uuid::from_u128(number))),
        1 => "[-0-9a-f]{30,40}",
    ]
}

proptest! {
    #[test]
    fn names_times_and_ids_have_one_grammar(name in name(), time in time(), id in id(), version in "[-+0-9]{1,10}") {
        let valid = Texts::valid;
        Texts { stream: name.clone(), ..valid() }.check();
        Texts { event_type: name.clone(), ..valid() }.check();
        Texts { tag: name, ..valid() }.check();
        Texts { occurred_at: time, ..valid() }.check();
        Texts { id, ..valid() }.check();
        // JSON has no number with a plus sign or leading zeros.
        if serde_json::from_str::<Value>(&version).is_ok() {
            Texts { version, ..valid() }.check();
        }
    }
}

#[test]
fn valid_texts_are_accepted_by_both() {
    assert!(Texts::valid().command_line().is_some());
    Texts::valid().check();
    for metadata in ["{}", "{\"a\":1e3}", "[]", "1", "{\"a\":1,\"a\":2}"] {
        Texts { metadata: metadata.to_owned(), ..Texts::valid() }.check();
    }
}
