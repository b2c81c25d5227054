//! The command `retag`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fs, io};

use es_core::__private::payload_value;
use es_core::model::{EventView, Tag, Tags};
use es_core::{EventStore, EventType};
use es_rocksdb::{Options, ReadOnlyStore, RetagError, Retagged};
use es_tool::output;
use serde::Serialize;
use serde_json::Value;

use crate::answer::print;
use crate::args::RetagArgs;
use crate::failure::Failure;
use crate::progress::Bar;
use crate::store::ReplicatedStreams;
use crate::text::{count, excerpt};

/// The number of events between two updates of the progress bar.
const PROGRESS_INTERVAL: u64 = 1024;

#[derive(Serialize)]
struct RetagAnswer {
    // A text, because a path that is not UTF-8 has no JSON form.
    directory: String,
    events: u64,
    /// The number of events that have more tags than before.
    tagged: u64,
    /// The number of unique keys that the copy does not claim.
    lost_claims: u64,
    tags: Vec<FieldTag>,
}

/// A field of the events of one type that becomes a tag, and the events that were found.
#[derive(Debug, Serialize)]
struct FieldTag {
    r#type: EventType,
    key: String,
    pointer: String,
    events: u64,
    /// The number of events whose content has no value at the pointer, and which get no tag.
    without_value: u64,
}

pub(super) async fn run(directory: &Path, args: &RetagArgs, json: bool) -> Result<(), Failure> {
    let mut fields = args.tag.chunks_exact(3).map(FieldTag::parse).collect::<Result<Vec<_>, _>>()?;
    // ORDER: the source first, so that a wrong path does not create an empty store.
    let source = ReadOnlyStore::open(directory).await?;
    check_not_replicated(&source, directory).await?;
    let new = NewStore::begin(&args.to)?;
    let target = Options::new().open(&new.incomplete).await?;
    let bar = Bar::new("retag");
    let mut tags = |event: EventView<'_>| {
        let done = event.position().get();
        if done.is_multiple_of(PROGRESS_INTERVAL) {
            bar.update("retag", done, None);
        }
        tags_of(event, &mut fields)
    };
    let retagged = source.retag(&target, &mut tags).await;
    drop(bar);
    let closed = target.close().await;
    let copied = retagged.map_err(|error| match error {
        RetagError::Open(error) => error.into(),
        RetagError::Read(error) => Failure::Store(error),
        source => Failure::Retag { directory: args.to.clone(), source },
    });
    let copied = copied.and_then(|retagged| closed.map(|()| retagged).map_err(Failure::from));
    let Retagged { events, tagged, lost_claims } = copied.inspect_err(|_| new.remove())?;
    new.complete()?;
    let answer = RetagAnswer { directory: args.to.display().to_string(), events, tagged, lost_claims, tags: fields };
    print(json, || to_text(&answer), &answer)
}

/// Refuses the store of a node. The copy has no rows, and a node refuses replicated events without the rows of its
/// replica.
async fn check_not_replicated(source: &ReadOnlyStore, directory: &Path) -> Result<(), Failure> {
    let replicated = ReplicatedStreams::read(source, directory).await?;
    replicated.node().map_or(Ok(()), |node| {
        Err(Failure::Input(format!(
            "expected a store that is no replica, found that of node {node:?} in {}: a copy has the replicated events \
             without the rows of the replica, so that no node opens it",
            directory.display()
        )))
    })
}

/// The directory of a new store. The store is in a directory within it, `incomplete`, until it is complete. No program
/// opens the directory as long as that is in it.
struct NewStore {
    directory: PathBuf,
    incomplete: PathBuf,
    /// Whether the directory does not exist yet.
    is_new: bool,
}

impl NewStore {
    /// Refers to the new store in a directory, which must be empty or not exist. Creates nothing.
    fn begin(directory: &Path) -> Result<Self, Failure> {
        let (directory, incomplete) = (directory.to_owned(), directory.join("incomplete"));
        let first = fs::read_dir(&directory).map(|mut entries| entries.next());
        let is_new = match first {
            Ok(None) => false,
            Ok(Some(_)) => {
                let directory = directory.display();
                let advice = match incomplete.exists() {
                    true => "the copy of an interrupted retag; remove it, or choose another directory",
                    false => "files; choose another",
                };
                let message = format!("expected an empty or a new directory in {directory}, found {advice}");
                return Err(Failure::Input(message));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(Failure::io("read the directory", &directory, error)),
        };
        Ok(Self { directory, incomplete, is_new })
    }

    /// Moves the closed store to its directory. An error leaves a directory that no program opens.
    fn complete(&self) -> Result<(), Failure> {
        let failed = |source| Failure::io("move the copy to", &self.directory, source);
        for entry in fs::read_dir(&self.incomplete).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            fs::rename(entry.path(), self.directory.join(entry.file_name())).map_err(failed)?;
        }
        let sync = || output::sync_directory(&self.directory).map_err(failed);
        // ORDER: the names of the parts are on disk before the directory can be opened.
        sync()?;
        fs::remove_dir(&self.incomplete).map_err(failed)?;
        sync()
    }

    /// Removes what was written. The error of the copy is reported, not that of the removal.
    fn remove(&self) {
        let _ = fs::remove_dir_all(&self.incomplete);
        if self.is_new {
            let _ = fs::remove_dir(&self.directory);
        }
    }
}

impl FieldTag {
    /// Parses the type, the key and the JSON pointer of `--tag`.
    fn parse(values: &[String]) -> Result<Self, Failure> {
        let [r#type, key, pointer] = values else {
            return Err(Failure::Usage("expected a type, a key and a pointer after --tag".into()));
        };
        let invalid = |name: &str, value: &str, error: &dyn Error| {
            Failure::Usage(format!("expected a valid {name} after --tag, found {:?}: {error}", excerpt(value)))
        };
        if !pointer.starts_with('/') {
            return Err(Failure::Usage(format!(
                "expected a JSON pointer such as /customer/id after --tag, found {:?}",
                excerpt(pointer)
            )));
        }
        if key.is_empty() {
            return Err(Failure::Usage("expected the key of a tag after --tag and the type, found nothing".into()));
        }
        Tag::of(key, "").map_err(|error| invalid("key of a tag", key, &error))?;
        let r#type = EventType::new(r#type.as_str()).map_err(|error| invalid("event type", r#type, &error))?;
        Ok(Self { r#type, key: key.clone(), pointer: pointer.clone(), events: 0, without_value: 0 })
    }
}

/// Returns the tags to add to an event.
fn tags_of(event: EventView<'_>, fields: &mut [FieldTag]) -> Result<Tags, Box<dyn Error + Send + Sync>> {
    let mut tags = Tags::new();
    let mut content = None;
    for field in fields.iter_mut().filter(|field| field.r#type == *event.event_type()) {
        let content = match &content {
            Some(content) => content,
            None => content.insert(payload_value(event.content_type(), event.payload())?),
        };
        field.events += 1;
        let before = tags.len();
        for value in values(content.pointer(&field.pointer), &field.pointer)? {
            tags.insert(Tag::of(&field.key, value)?);
        }
        field.without_value += u64::from(tags.len() == before);
    }
    Ok(tags)
}

/// Returns the values of a field as the derive formats them: none for `null` and a missing field, one for a string, a
/// number or a boolean, and one for each element of a list.
fn values(value: Option<&Value>, pointer: &str) -> Result<Vec<String>, String> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(value @ (Value::Bool(_) | Value::Number(_))) => Ok(vec![value.to_string()]),
        Some(Value::Array(list)) => {
            list.iter().map(|item| values(Some(item), pointer)).collect::<Result<Vec<_>, _>>().map(|all| all.concat())
        }
        Some(object @ Value::Object(_)) => Err(format!(
            "expected a string, a number, a boolean or a list of them at {pointer}, found {}; use a pointer into it",
            excerpt(&object.to_string())
        )),
    }
}

fn to_text(answer: &RetagAnswer) -> String {
    let RetagAnswer { directory, events, tagged, lost_claims, tags } = answer;
    let mut lines =
        vec![format!("{} copied to {directory}, {tagged} with new tags", count(*events, "event", "events"))];
    lines.extend(tags.iter().map(|FieldTag { r#type, key, pointer, events, without_value }| match events {
        0 => format!("  {type} {key}: no event has this type; check the name, and add a --tag for each former name"),
        _ => format!(
            "  {type} {key}: {}, {without_value} without a value at {pointer}",
            count(*events, "event", "events")
        ),
    }));
    if *lost_claims > 0 {
        lines.push(format!(
            "{} not held in the copy, because the events that claimed them are hidden or removed; claim them again",
            count(*lost_claims, "unique key is", "unique keys are")
        ));
    }
    lines.push("views are built again; snapshots and results of commands are not copied".to_owned());
    lines.join("\n")
}
