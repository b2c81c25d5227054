//! The golden corpus: one JSON file for each version of each event ever written, kept with the code and read by a test.
//!
//! A record is for ever, but the type that reads it changes. The corpus holds one encoded sample of each version, and
//! [`check`] fails when
//!
//! - the present code no longer reads a version that stands in the corpus (an upcaster is missing or wrong),
//! - the present code writes a version otherwise than the corpus says (the type changed without a new version),
//! - a version has no file.
//!
//! Samples of the current versions are made by the derive; set `ES_GOLDEN=write` once to have missing files written,
//! look at them, and commit them. A file that is there is never changed.
//!
//! This module is in `testing` and not in `schema`, because all of it reads and writes the files of a test. The samples
//! that it compares are made in `schema`.
//!
//! ```no_run
//! # use es_core::schema::EventSamples;
//! # fn test<OrderEvent: EventSamples>() {
//! es_core::testing::golden::check::<OrderEvent>(concat!(env!("CARGO_MANIFEST_DIR"), "/golden"));
//! # }
//! ```

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::ContentType;
use crate::model::ErrorChain;
use crate::schema::codec;
use crate::schema::{EncodedEvent, EventSamples, EventSchema, RawEvent};

/// The environment variable that has missing files written when it is `write`.
const VARIABLE: &str = "ES_GOLDEN";

/// One file of a corpus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenEvent {
    event_type: String,
    version: u32,
    content_type: ContentType,
    tags: Vec<String>,
    payload: Value,
}

/// Holds an event type to the corpus in a directory.
///
/// # Panics
/// When the type and the corpus disagree, with everything that is wrong and what to do about each.
#[track_caller]
pub fn check<E: EventSamples>(directory: impl AsRef<Path>) {
    let directory = directory.as_ref();
    let write = std::env::var(VARIABLE).is_ok_and(|value| value == "write");
    let problems = disagreements::<E>(directory, write);
    assert!(
        problems.is_empty(),
        "the golden corpus in {} and {} disagree:\n{}",
        directory.display(),
        std::any::type_name::<E>(),
        problems.iter().fold(String::new(), |mut text, problem| {
            let _ = writeln!(text, "- {problem}");
            text
        })
    );
}

/// What [`check`] would say, one text for each problem; with `write`, missing files are written first. For those who
/// report in another way than by a panic.
#[doc(hidden)]
#[must_use]
pub fn disagreements<E: EventSamples>(directory: &Path, write: bool) -> Vec<String> {
    let mut problems = Vec::new();
    let written: Vec<&EventSchema> = E::SCHEMA.iter().filter(|schema| schema.version > 0).collect();
    for (schema, sample) in written.iter().zip(E::samples()) {
        match sample
            .map_err(|error| error.to_string())
            .and_then(|sample| sample.encode().map_err(|error| ErrorChain(&error).to_string()))
        {
            Ok(encoded) => check_current(directory, schema, &encoded, write, &mut problems),
            Err(problem) => problems.push(format!("{}: {problem}", schema.name)),
        }
    }
    for schema in &written {
        for version in schema.oldest..schema.version {
            check_readable::<E>(directory, schema.name, version, &mut problems);
        }
        check_readable::<E>(directory, schema.name, schema.version, &mut problems);
    }
    problems
}

/// The present code writes the current version as the corpus says.
fn check_current(
    directory: &Path,
    schema: &EventSchema,
    encoded: &EncodedEvent,
    write: bool,
    problems: &mut Vec<String>,
) {
    let path = file(directory, schema.name, schema.version);
    let golden = match golden(encoded) {
        Ok(golden) => golden,
        Err(problem) => return problems.push(format!("{}: {problem}", schema.name)),
    };
    if !path.exists() {
        if !write {
            return problems.push(format!(
                "{} is not there; run the test once with {VARIABLE}=write, look at the file, and commit it",
                path.display()
            ));
        }
        if let Err(error) = write_file(&path, &golden) {
            return problems.push(format!("could not write {}: {error}", path.display()));
        }
    }
    match read_file(&path) {
        Ok(found) if found == golden => {}
        Ok(found) => problems.push(format!(
            "event {:?} version {} is written otherwise than before; give it version {} and an upcaster from \
             version {}, then run the test with {VARIABLE}=write\n    before: {}\n    now:    {}",
            schema.name,
            schema.version,
            schema.version + 1,
            schema.version,
            line(&found),
            line(&golden),
        )),
        Err(problem) => problems.push(problem),
    }
}

/// The present code reads a version as it stands in the corpus.
fn check_readable<E: EventSamples>(directory: &Path, name: &str, version: u32, problems: &mut Vec<String>) {
    let path = file(directory, name, version);
    if !path.exists() {
        // NOTE: the current version was reported or written above; an old one cannot be made up by code that no longer
        // writes it.
        if E::SCHEMA.iter().any(|schema| schema.name == name && schema.version > version) {
            problems.push(format!(
                "{} is not there, but version {version} is declared to be readable; take the file from the history of \
                 the code, or write it by hand after a real record",
                path.display()
            ));
        }
        return;
    }
    let read = read_file(&path).and_then(|golden| {
        let payload = encode(&golden.content_type, &golden.payload)?;
        let raw = RawEvent { event_type: name, version, content_type: &golden.content_type, payload: &payload };
        E::decode(raw).map(drop).map_err(|error| format!("{} cannot be read: {}", path.display(), ErrorChain(&error)))
    });
    problems.extend(read.err());
}

fn file(directory: &Path, name: &str, version: u32) -> PathBuf {
    // NOTE: a wire name may have characters that a file name cannot have on some systems.
    let safe: String = name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    directory.join(format!("{safe}.v{version}.json"))
}

fn golden(encoded: &EncodedEvent) -> Result<GoldenEvent, String> {
    let payload = codec::decode::<Value>(&encoded.content_type, &encoded.payload)
        .map_err(|error| ErrorChain(&error).to_string())?;
    Ok(GoldenEvent {
        event_type: encoded.event_type.as_str().to_owned(),
        version: encoded.version,
        content_type: encoded.content_type.clone(),
        tags: encoded.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
        payload,
    })
}

fn encode(content_type: &ContentType, payload: &Value) -> Result<bytes::Bytes, String> {
    use crate::schema::codec::{Codec, Json, MessagePack};
    match content_type {
        ContentType::Json => Json::encode(payload),
        ContentType::MessagePack => MessagePack::encode(payload),
        ContentType::Other(found) => return Err(format!("no codec writes {found}")),
    }
    .map_err(|error| error.to_string())
}

fn line(golden: &GoldenEvent) -> String {
    serde_json::to_string(golden).unwrap_or_default()
}

fn write_file(path: &Path, golden: &GoldenEvent) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let text = serde_json::to_string_pretty(golden)?;
    fs::write(path, text + "\n")
}

fn read_file(path: &Path) -> Result<GoldenEvent, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("could not read {}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{} is not a golden event: {error}", path.display()))
}
