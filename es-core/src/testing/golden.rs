//! The golden corpus: JSON files for each version of each event type, checked in with the code and read by a test.
//!
//! Recorded events never change, but the types that decode them do. The corpus of an event type is a directory of its
//! own:
//!
//! | file | content |
//! |---|---|
//! | `{name}.v{N}.json` | an encoded sample of version N |
//! | `{name}.v{N}.current.json` | the events that the current code decodes the sample as, for each former version and each former name |
//!
//! [`check`] fails if
//!
//! - the current code cannot decode a version in the corpus, because an upcaster is missing or wrong;
//! - the current code decodes a former version as other events than the corpus, because an upcaster changed;
//! - the current code encodes the current version differently, because the type changed without a new version;
//! - a version has no file;
//! - a file belongs to no version of the event type, because a variant was removed without `retired`, a name without
//!   `alias`, or a version without `oldest`.
//!
//! The derive macro generates the samples of the current versions. Run the test once with `ES_GOLDEN=write` to write
//! the missing files, review them, and commit them. Existing samples are never changed. The events in a `.current.json`
//! file are replaced only if one of their types has a newer version since.
//!
//! A sample is one value of its type: an upcaster that is wrong only for other values passes. Edit the sample of a
//! former version to add a case that matters, and test the upcaster.
//!
//! This module is in `testing` and not in `schema`, because it reads and writes files. The samples come from `schema`.
//!
//! ```no_run
//! # use es_core::schema::EventSamples;
//! # fn test<OrderEvent: EventSamples>() {
//! es_core::testing::golden::check::<OrderEvent>(concat!(env!("CARGO_MANIFEST_DIR"), "/golden/order"));
//! # }
//! ```

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::ContentType;
use crate::model::ErrorChain;
use crate::schema::codec;
use crate::schema::{EventSamples, EventSchema, RawEvent};

/// The environment variable that requests missing files when it is set to `write`.
const VARIABLE: &str = "ES_GOLDEN";
/// The end of the name of a file with the events that a sample is decoded as.
const CURRENT: &str = ".current.json";

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

/// Checks an event type against the corpus in a directory, which holds the files of this type only. Files without the
/// extension `json` and subdirectories are ignored.
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
    let mut corpus = Corpus { directory, missing, problems: Vec::new() };
    let schemas: Vec<&EventSchema> = E::SCHEMA.iter().filter(|schema| schema.version > 0).collect();
    for (schema, sample) in schemas.iter().zip(E::samples()) {
        let checked =
            sample.map_err(|error| error.to_string()).and_then(|sample| corpus.check_current(schema, &sample));
        corpus.report(checked.map_err(|problem| format!("{}: {problem}", schema.name)));
    }
    for schema in schemas {
        for version in schema.oldest..schema.version {
            corpus.check_exists(schema, version);
        }
    }
    let checked = corpus.check_files::<E>();
    corpus.report(checked);
    corpus.problems
}

/// A corpus, and the differences found in it.
struct Corpus<'a> {
    directory: &'a Path,
    missing: MissingFiles,
    problems: Vec<String>,
}

impl Corpus<'_> {
    fn report(&mut self, checked: Result<(), String>) {
        self.problems.extend(checked.err());
    }

    fn path(&self, name: &str, version: u32) -> PathBuf {
        self.directory.join(file_name(name, version))
    }

    /// Checks that the current code encodes the current version as in the corpus, and writes a missing file.
    fn check_current<E: EventSamples>(&mut self, schema: &EventSchema, sample: &E) -> Result<(), String> {
        let golden = golden(sample)?;
        let path = self.path(schema.name, schema.version);
        if !path.exists() {
            if self.missing == MissingFiles::Report {
                self.problems.push(missing_file(&path));
                return Ok(());
            }
            write_file(&path, &golden)?;
        }
        let found: GoldenEvent = read_file(&path)?;
        if found != golden {
            self.problems.push(format!(
                "event {:?} version {} is encoded differently than in the corpus; give it version {} and an upcaster \
                 from version {}, then run the test with {VARIABLE}=write\n    corpus: {}\n    now:    {}",
                schema.name,
                schema.version,
                schema.version + 1,
                schema.version,
                to_line(&found),
                to_line(&golden),
            ));
        }
        Ok(())
    }

    /// Checks that a former version has a file, which cannot be written: the current code does not encode the version.
    fn check_exists(&mut self, schema: &EventSchema, version: u32) {
        let names = std::iter::once(&schema.name).chain(schema.aliases);
        if names.into_iter().any(|name| self.path(name, version).exists()) {
            return;
        }
        self.problems.push(format!(
            "{} does not exist, but version {version} is declared to be readable; take the file from the history of \
             the repository, or write it by hand from a recorded event",
            self.path(schema.name, version).display()
        ));
    }

    /// Checks every file of the directory.
    fn check_files<E: EventSamples>(&mut self) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("could not list {}: {error}", self.directory.display());
        let mut paths = Vec::new();
        // A missing directory has no files. The checks of the versions have reported them.
        let entries = if self.directory.exists() { Some(fs::read_dir(self.directory).map_err(failed)?) } else { None };
        for entry in entries.into_iter().flatten() {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "json") && path.is_file() {
                paths.push(path);
            }
        }
        paths.sort();
        for path in paths {
            let checked = match path.to_string_lossy().strip_suffix(CURRENT) {
                Some(stem) => check_has_sample(&path, Path::new(&format!("{stem}.json"))),
                None => self.check_sample::<E>(&path),
            };
            self.report(checked);
        }
        Ok(())
    }

    /// Checks that a sample belongs to a version of the event type, and is decoded as the events in the corpus.
    fn check_sample<E: EventSamples>(&mut self, path: &Path) -> Result<(), String> {
        let sample: GoldenEvent = read_file(path)?;
        let (name, version) = (sample.event_type.as_str(), sample.version);
        let expected_name = file_name(name, version);
        if path.file_name().is_none_or(|found| *found != *expected_name) {
            return Err(format!(
                "{} is the sample of event {name:?} version {version}: rename it to {expected_name}",
                path.display()
            ));
        }
        let Some(schema) = E::SCHEMA.iter().find(|schema| schema.reads(name)) else {
            return Err(format!(
                "{}: no variant has the wire name {name:?}; recorded events stay in the log, so list the name in \
                 `alias(...)` of the variant that replaces it, or in `retired(...)`, or move the file to the directory \
                 of its event type",
                path.display()
            ));
        };
        let current = decode::<E>(&sample).map_err(|error| format!("could not decode {}: {error}", path.display()))?;
        if schema.version == 0 || (schema.name == name && schema.version == version) {
            // A retired event is decoded as no event, and `check_current` has compared the current version.
            return Ok(());
        }
        self.check_decoded::<E>(&sample, &path.with_extension("current.json"), &current)
    }

    /// Compares the events that a sample is decoded as with those in the corpus.
    fn check_decoded<E: EventSamples>(
        &mut self,
        sample: &GoldenEvent,
        path: &Path,
        current: &[GoldenEvent],
    ) -> Result<(), String> {
        let is_write = self.missing == MissingFiles::Write;
        if !path.exists() {
            return if is_write { write_file(path, current) } else { Err(missing_file(path)) };
        }
        let expected: Vec<GoldenEvent> = read_file(path)?;
        if expected == *current {
            return Ok(());
        }
        let is_outdated = expected.iter().any(|event| !is_current::<E>(event));
        if is_outdated && is_write {
            return write_file(path, current);
        }
        let remedy = if is_outdated {
            format!("run the test once with {VARIABLE}=write, and review the new content")
        } else {
            "recorded events must keep their meaning, so correct the upcaster; if the corpus is wrong, delete the file \
             and run the test with ES_GOLDEN=write"
                .to_owned()
        };
        Err(format!(
            "event {:?} version {} is decoded as other events than in {}: {remedy}\n    corpus: {}\n    now:    {}",
            sample.event_type,
            sample.version,
            path.display(),
            to_line(&expected),
            to_line(current),
        ))
    }
}

/// Returns whether an event has a current wire name and version.
fn is_current<E: EventSamples>(event: &GoldenEvent) -> bool {
    E::SCHEMA.iter().any(|schema| schema.name == event.event_type && schema.version == event.version)
}

fn check_has_sample(path: &Path, sample: &Path) -> Result<(), String> {
    if sample.exists() {
        return Ok(());
    }
    Err(format!(
        "{} belongs to {}, which does not exist: restore the sample, or delete both",
        path.display(),
        sample.display()
    ))
}

fn missing_file(path: &Path) -> String {
    format!(
        "{} does not exist; run the test once with {VARIABLE}=write, review the file, and commit it",
        path.display()
    )
}

/// Returns the events that the current code decodes a sample as, as it encodes them.
fn decode<E: EventSamples>(sample: &GoldenEvent) -> Result<Vec<GoldenEvent>, String> {
    let payload = encode(&sample.content_type, &sample.payload)?;
    let raw = RawEvent {
        event_type: &sample.event_type,
        version: sample.version,
        content_type: &sample.content_type,
        payload: &payload,
    };
    let events = E::decode(raw).map_err(|error| ErrorChain(&error).to_string())?;
    events.as_slice().iter().map(golden).collect()
}

fn file_name(name: &str, version: u32) -> String {
    // A wire name may have characters that are invalid in a file name on some systems.
    let safe: String = name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    format!("{safe}.v{version}.json")
}

fn golden<E: EventSamples>(event: &E) -> Result<GoldenEvent, String> {
    let encoded = event.encode().map_err(|error| ErrorChain(&error).to_string())?;
    let payload = codec::decode::<Value>(&encoded.content_type, &encoded.payload)
        .map_err(|error| ErrorChain(&error).to_string())?;
    Ok(GoldenEvent {
        event_type: encoded.event_type.as_str().to_owned(),
        version: encoded.version,
        content_type: encoded.content_type,
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

fn to_line(content: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(content).unwrap_or_default()
}

fn write_file(path: &Path, content: &(impl Serialize + ?Sized)) -> Result<(), String> {
    let write = || {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let text = serde_json::to_string_pretty(content)?;
        fs::write(path, text + "\n")
    };
    write().map_err(|error: std::io::Error| format!("could not write {}: {error}", path.display()))
}

fn read_file<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("could not read {}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{} is not a golden event: {error}", path.display()))
}
