//! The golden corpus: one JSON file for each version of each event type, checked in with the code and read by a test.
//!
//! Recorded events never change, but the types that decode them do. The corpus holds one encoded sample of each
//! version. [`check`] fails if
//!
//! - the current code cannot decode a version in the corpus, because an upcaster is missing or wrong;
//! - the current code encodes a version differently, because the type changed without a new version;
//! - a version has no file.
//!
//! The derive macro generates the samples of the current versions. Run the test once with `ES_GOLDEN=write` to write
//! the missing files, review them, and commit them. Existing files are never changed.
//!
//! This module is in `testing` and not in `schema`, because it reads and writes files. The samples come from `schema`.
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

/// The environment variable that requests missing files when it is set to `write`.
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

/// Checks an event type against the corpus in a directory.
///
/// # Panics
/// If the type and the corpus differ. The message lists every difference with its remedy.
#[track_caller]
pub fn check<E: EventSamples>(directory: impl AsRef<Path>) {
    let directory = directory.as_ref();
    let is_write = std::env::var(VARIABLE).is_ok_and(|value| value == "write");
    let missing = if is_write { MissingFiles::Write } else { MissingFiles::Report };
    let problems = differences::<E>(directory, missing);
    assert!(
        problems.is_empty(),
        "the golden corpus in {} differs from {}:\n{}",
        directory.display(),
        std::any::type_name::<E>(),
        problems.iter().fold(String::new(), |mut text, problem| {
            let _ = writeln!(text, "- {problem}");
            text
        })
    );
}

/// The treatment of a missing file of a current version.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingFiles {
    /// Report the file as a difference.
    Report,
    /// Write the file.
    Write,
}

/// Returns the differences that [`check`] reports.
#[doc(hidden)]
#[must_use]
pub fn differences<E: EventSamples>(directory: &Path, missing: MissingFiles) -> Vec<String> {
    let mut problems = Vec::new();
    let schemas: Vec<&EventSchema> = E::SCHEMA.iter().filter(|schema| schema.version > 0).collect();
    for (schema, sample) in schemas.iter().zip(E::samples()) {
        match sample
            .map_err(|error| error.to_string())
            .and_then(|sample| sample.encode().map_err(|error| ErrorChain(&error).to_string()))
        {
            Ok(encoded) => check_current(directory, schema, &encoded, missing, &mut problems),
            Err(problem) => problems.push(format!("{}: {problem}", schema.name)),
        }
    }
    for schema in &schemas {
        for version in schema.oldest..schema.version {
            check_readable::<E>(directory, schema.name, version, &mut problems);
        }
        check_readable::<E>(directory, schema.name, schema.version, &mut problems);
    }
    problems
}

/// Checks that the current code encodes the current version as in the corpus.
fn check_current(
    directory: &Path,
    schema: &EventSchema,
    encoded: &EncodedEvent,
    missing: MissingFiles,
    problems: &mut Vec<String>,
) {
    let path = file(directory, schema.name, schema.version);
    let golden = match golden(encoded) {
        Ok(golden) => golden,
        Err(problem) => return problems.push(format!("{}: {problem}", schema.name)),
    };
    if !path.exists() {
        if missing == MissingFiles::Report {
            return problems.push(format!(
                "{} does not exist; run the test once with {VARIABLE}=write, review the file, and commit it",
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
            "event {:?} version {} is encoded differently than in the corpus; give it version {} and an upcaster from \
             version {}, then run the test with {VARIABLE}=write\n    corpus: {}\n    now:    {}",
            schema.name,
            schema.version,
            schema.version + 1,
            schema.version,
            to_line(&found),
            to_line(&golden),
        )),
        Err(problem) => problems.push(problem),
    }
}

/// Checks that the current code decodes a version of the corpus.
fn check_readable<E: EventSamples>(directory: &Path, name: &str, version: u32, problems: &mut Vec<String>) {
    let path = file(directory, name, version);
    if !path.exists() {
        // The check of the current version has already reported or written its missing file. The file of an old
        // version cannot be written, because the current code no longer encodes that version.
        if E::SCHEMA.iter().any(|schema| schema.name == name && schema.version > version) {
            problems.push(format!(
                "{} does not exist, but version {version} is declared to be readable; take the file from the history \
                 of the repository, or write it by hand from a recorded event",
                path.display()
            ));
        }
        return;
    }
    let read = read_file(&path).and_then(|golden| {
        let payload = encode(&golden.content_type, &golden.payload)?;
        let raw = RawEvent { event_type: name, version, content_type: &golden.content_type, payload: &payload };
        E::decode(raw).map(drop).map_err(|error| format!("could not decode {}: {}", path.display(), ErrorChain(&error)))
    });
    problems.extend(read.err());
}

fn file(directory: &Path, name: &str, version: u32) -> PathBuf {
    // A wire name may have characters that are invalid in a file name on some systems.
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
        ContentType::Other(found) => return Err(format!("no codec for content type {found}")),
    }
    .map_err(|error| error.to_string())
}

fn to_line(golden: &GoldenEvent) -> String {
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
