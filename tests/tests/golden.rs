//! The golden corpus finds what it is there to find: a changed event without a new version, a version that is no longer
//! read, a missing file.

use std::fs;
use std::path::Path;

use es_core::{Event, Events, Upcast};
use serde::{Deserialize, Serialize};

/// The event as it was first written.
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

/// A field was renamed, but the version stayed.
mod renamed_in_silence {
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

/// The same change as it should be made.
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

/// The old version is declared, but what is declared cannot read it.
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

/// What `ES_GOLDEN=write` does.
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
fn a_corpus_that_was_written_holds() {
    let dir = corpus();
    assert_eq!(check::<first::ParcelEvent>(dir.path()), Vec::<String>::new());
    let text = fs::read_to_string(dir.path().join("parcel-sent.v1.json")).expect("written");
    assert!(
        text.contains("\"content_type\": \"application/msgpack\"") && text.contains("\"to\": \"sample\""),
        "{text}"
    );
}

#[test]
fn a_missing_file_says_how_it_is_made() {
    let dir = corpus();
    fs::remove_file(dir.path().join("parcel-sent.v1.json")).expect("removed");
    expect_one(&check::<first::ParcelEvent>(dir.path()), &["parcel-sent.v1.json does not exist", "ES_GOLDEN=write"]);
}

#[test]
fn an_event_changed_in_silence_is_found() {
    let dir = corpus();
    let problems = check::<renamed_in_silence::ParcelEvent>(dir.path());
    expect_one(
        &problems,
        &[
            "event \"parcel-weighed\" version 1 is encoded differently than in the corpus; give it version 2 and an upcaster",
            "{\"pounds\":1}",
            "{\"grams\":1}",
        ],
    );
    let before = fs::read_to_string(dir.path().join("parcel-weighed.v1.json")).expect("there");
    write::<renamed_in_silence::ParcelEvent>(dir.path());
    let after = fs::read_to_string(dir.path().join("parcel-weighed.v1.json")).expect("there");
    assert_eq!(before, after, "a file that is there is never changed");
}

#[test]
fn a_change_with_version_and_upcaster_needs_one_new_file() {
    let dir = corpus();
    expect_one(&check::<second::ParcelEvent>(dir.path()), &["parcel-weighed.v2.json does not exist"]);
    assert_eq!(write::<second::ParcelEvent>(dir.path()), Vec::<String>::new());
    assert_eq!(check::<second::ParcelEvent>(dir.path()), Vec::<String>::new());
}

#[test]
fn a_version_that_is_no_longer_read_is_found() {
    let dir = corpus();
    let problems = write::<wrong_upcaster::ParcelEvent>(dir.path());
    expect_one(&problems, &["could not decode", "parcel-weighed.v1.json: ", "missing field `stones`"]);
}

#[test]
fn an_old_version_without_its_file_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let problems = write::<second::ParcelEvent>(dir.path());
    expect_one(&problems, &["parcel-weighed.v1.json does not exist", "from the history of the repository"]);
}
