//! The golden corpus detects a changed event without a new version, a version that cannot be read, and a missing file.

use std::fs;
use std::path::Path;

use es_core::{Event, Events, Upcast};
use serde::{Deserialize, Serialize};

/// The first version of the event.
mod first {
    use super::*;

    #[derive(Debug, Serialize, Deserialize, Event)]
    pub(crate) enum ParcelEvent {
        #[event(name = "parcel-weighed")]
        Weighed { pounds: u32 },
        #[event(name = "parcel-sent", codec = "msgpack")]
        Sent { to: String, at: es_core::Timestamp },
    }
}

/// A renamed field without a new version.
mod renamed_without_version {
    use super::*;

    #[derive(Debug, Serialize, Deserialize, Event)]
    pub(crate) enum ParcelEvent {
        #[event(name = "parcel-weighed")]
        Weighed {
            #[serde(alias = "pounds")]
            grams: u32,
        },
        #[event(name = "parcel-sent", codec = "msgpack")]
        Sent { to: String, at: es_core::Timestamp },
    }
}

/// The same change with a new version and an upcaster.
mod second {
    use super::*;

    #[derive(Debug, Deserialize)]
    pub(crate) struct WeighedInPounds {
        pounds: u32,
    }

    impl Upcast<ParcelEvent> for WeighedInPounds {
        fn upcast(self) -> Events<ParcelEvent> {
            ParcelEvent::Weighed { grams: self.pounds * 454 }.into()
        }
    }

    #[derive(Debug, Serialize, Deserialize, Event)]
    pub(crate) enum ParcelEvent {
        #[event(name = "parcel-weighed", version = 2, upcast(1 = WeighedInPounds))]
        Weighed { grams: u32 },
        #[event(name = "parcel-sent", codec = "msgpack")]
        Sent { to: String, at: es_core::Timestamp },
    }
}

/// An upcaster that cannot decode the old version.
mod wrong_upcaster {
    use super::*;

    #[derive(Debug, Deserialize)]
    pub(crate) struct WeighedInStones {
        stones: u32,
    }

    impl Upcast<ParcelEvent> for WeighedInStones {
        fn upcast(self) -> Events<ParcelEvent> {
            ParcelEvent::Weighed { grams: self.stones * 6_350 }.into()
        }
    }

    #[derive(Debug, Serialize, Deserialize, Event)]
    pub(crate) enum ParcelEvent {
        #[event(name = "parcel-weighed", version = 2, upcast(1 = WeighedInStones))]
        Weighed { grams: u32 },
        #[event(name = "parcel-sent", codec = "msgpack")]
        Sent { to: String, at: es_core::Timestamp },
    }
}

use es_core::testing::golden::{MissingFiles, differences};

/// Writes missing files, as `ES_GOLDEN=write` does.
fn write<E: es_core::schema::EventSamples>(dir: &Path) -> Vec<String> {
    differences::<E>(dir, MissingFiles::Write)
}

fn check<E: es_core::schema::EventSamples>(dir: &Path) -> Vec<String> {
    differences::<E>(dir, MissingFiles::Report)
}

fn corpus() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(write::<first::ParcelEvent>(dir.path()), Vec::<String>::new());
    dir
}

#[track_caller]
fn expect_one(problems: &[String], parts: &[&str]) {
    let [problem] = problems else { panic!("expected one problem, found {problems:#?}") };
    for part in parts {
        assert!(problem.contains(part), "expected {part:?} in {problem:?}");
    }
}

#[test]
fn a_written_corpus_has_no_problems() {
    let dir = corpus();
    assert_eq!(check::<first::ParcelEvent>(dir.path()), Vec::<String>::new());
    let text = fs::read_to_string(dir.path().join("parcel-sent.v1.json")).expect("written");
    assert!(
        text.contains("\"content_type\": \"application/msgpack\"") && text.contains("\"to\": \"sample\""),
        "{text}"
    );
}

#[test]
fn the_message_for_a_missing_file_names_the_variable_that_writes_it() {
    let dir = corpus();
    fs::remove_file(dir.path().join("parcel-sent.v1.json")).expect("removed");
    expect_one(&check::<first::ParcelEvent>(dir.path()), &["parcel-sent.v1.json does not exist", "ES_GOLDEN=write"]);
}

#[test]
fn a_changed_event_without_a_new_version_is_a_problem() {
    let dir = corpus();
    let problems = check::<renamed_without_version::ParcelEvent>(dir.path());
    expect_one(
        &problems,
        &[
            "event \"parcel-weighed\" version 1 is encoded differently than in the corpus; \
             give it version 2 and an upcaster",
            "{\"pounds\":1}",
            "{\"grams\":1}",
        ],
    );
    let before = fs::read_to_string(dir.path().join("parcel-weighed.v1.json")).expect("there");
    write::<renamed_without_version::ParcelEvent>(dir.path());
    let after = fs::read_to_string(dir.path().join("parcel-weighed.v1.json")).expect("there");
    assert_eq!(before, after, "an existing file is never changed");
}

#[test]
fn a_change_with_a_version_and_an_upcaster_needs_one_new_file() {
    let dir = corpus();
    expect_one(&check::<second::ParcelEvent>(dir.path()), &["parcel-weighed.v2.json does not exist"]);
    assert_eq!(write::<second::ParcelEvent>(dir.path()), Vec::<String>::new());
    assert_eq!(check::<second::ParcelEvent>(dir.path()), Vec::<String>::new());
}

#[test]
fn a_version_that_cannot_be_read_is_a_problem() {
    let dir = corpus();
    let problems = write::<wrong_upcaster::ParcelEvent>(dir.path());
    expect_one(&problems, &["could not decode", "parcel-weighed.v1.json: ", "missing field `stones`"]);
}

#[test]
fn a_missing_file_of_an_old_version_is_a_problem() {
    let dir = tempfile::tempdir().expect("a directory");
    let problems = write::<second::ParcelEvent>(dir.path());
    expect_one(&problems, &["parcel-weighed.v1.json does not exist", "from the history of the repository"]);
}
