//! The golden corpus detects a changed event without a new version, a version that cannot be read or is read as another
//! event, a missing file, and a file that belongs to no version.

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

/// Defines a module with the second version of the event, and an upcaster of the first version with this field and
/// this factor.
macro_rules! second_version {
    ($(#[$doc:meta])* $module:ident, $unit:ident * $grams:literal) => {
        $(#[$doc])*
        mod $module {
            use super::*;

            #[derive(Debug, Deserialize)]
            pub(crate) struct FirstWeighed {
                $unit: u32,
            }

            impl Upcast<ParcelEvent> for FirstWeighed {
                fn upcast(self) -> Events<ParcelEvent> {
                    ParcelEvent::Weighed { grams: self.$unit * $grams }.into()
                }
            }

            #[derive(Debug, Serialize, Deserialize, Event)]
            pub(crate) enum ParcelEvent {
                #[event(name = "parcel-weighed", version = 2, upcast(1 = FirstWeighed))]
                Weighed { grams: u32 },
                #[event(name = "parcel-sent", codec = "msgpack")]
                Sent { to: String, at: es_core::Timestamp },
            }
        }
    };
}

second_version! {
    /// The same change with a new version and an upcaster.
    second, pounds * 454
}

second_version! {
    /// An upcaster that cannot decode the old version.
    wrong_upcaster, stones * 6_350
}

second_version! {
    /// The upcaster of the second version with another factor.
    another_amount, pounds * 500
}

/// A third version: the first one gets another result.
mod third {
    use super::*;

    #[derive(Debug, Deserialize)]
    pub(crate) struct WeighedInPounds {
        pounds: u32,
    }

    #[derive(Debug, Deserialize)]
    pub(crate) struct WeighedInGrams {
        grams: u32,
    }

    impl Upcast<WeighedInGrams> for WeighedInPounds {
        fn upcast(self) -> Events<WeighedInGrams> {
            WeighedInGrams { grams: self.pounds * 454 }.into()
        }
    }

    impl Upcast<ParcelEvent> for WeighedInGrams {
        fn upcast(self) -> Events<ParcelEvent> {
            ParcelEvent::Weighed { milligrams: u64::from(self.grams) * 1_000 }.into()
        }
    }

    #[derive(Debug, Serialize, Deserialize, Event)]
    pub(crate) enum ParcelEvent {
        #[event(name = "parcel-weighed", version = 3, upcast(1 = WeighedInPounds, 2 = WeighedInGrams))]
        Weighed { milligrams: u64 },
        #[event(name = "parcel-sent", codec = "msgpack")]
        Sent { to: String, at: es_core::Timestamp },
    }
}

/// The first version without one of its variants.
mod variant_removed {
    use super::*;

    #[derive(Debug, Serialize, Deserialize, Event)]
    pub(crate) enum ParcelEvent {
        #[event(name = "parcel-weighed")]
        Weighed { pounds: u32 },
    }
}

/// The same, with the name of the removed variant.
mod variant_retired {
    use super::*;

    #[derive(Debug, Serialize, Deserialize, Event)]
    #[event(retired("parcel-sent"))]
    pub(crate) enum ParcelEvent {
        #[event(name = "parcel-weighed")]
        Weighed { pounds: u32 },
    }
}

/// The first version with a renamed event.
mod renamed {
    use super::*;

    #[derive(Debug, Serialize, Deserialize, Event)]
    pub(crate) enum ParcelEvent {
        #[event(name = "parcel-on-scales", alias("parcel-weighed"))]
        Weighed { pounds: u32 },
        #[event(name = "parcel-sent", codec = "msgpack")]
        Sent { to: String, at: es_core::Timestamp },
    }
}

/// A second version that claims that the first one was never recorded.
mod oldest_forgotten {
    use super::*;

    #[derive(Debug, Serialize, Deserialize, Event)]
    pub(crate) enum ParcelEvent {
        #[event(name = "parcel-weighed", version = 2, oldest = 2)]
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
fn a_change_with_a_version_and_an_upcaster_needs_a_sample_and_the_result_of_the_upcaster() {
    let dir = corpus();
    let problems = check::<second::ParcelEvent>(dir.path());
    let [sample, result] = &*problems else { panic!("expected two problems, found {problems:#?}") };
    assert!(sample.contains("parcel-weighed.v2.json does not exist"), "{sample}");
    assert!(result.contains("parcel-weighed.v1.current.json does not exist"), "{result}");
    assert_eq!(write::<second::ParcelEvent>(dir.path()), Vec::<String>::new());
    assert_eq!(check::<second::ParcelEvent>(dir.path()), Vec::<String>::new());
    let result = fs::read_to_string(dir.path().join("parcel-weighed.v1.current.json")).expect("written");
    assert!(result.contains("\"version\": 2") && result.contains("\"grams\": 454"), "{result}");
}

/// Row 4 of the trial of a new user: an upcaster that returns another amount passed.
#[test]
fn an_upcaster_that_returns_another_amount_is_a_problem() {
    let dir = corpus();
    assert_eq!(write::<second::ParcelEvent>(dir.path()), Vec::<String>::new());
    for problems in [check::<another_amount::ParcelEvent>(dir.path()), write::<another_amount::ParcelEvent>(dir.path())]
    {
        expect_one(
            &problems,
            &["event \"parcel-weighed\" version 1 is decoded as other events", "correct the upcaster", "454", "500"],
        );
    }
}

#[test]
fn a_new_version_replaces_the_results_of_the_upcasters_on_request() {
    let dir = corpus();
    assert_eq!(write::<second::ParcelEvent>(dir.path()), Vec::<String>::new());
    let problems = check::<third::ParcelEvent>(dir.path());
    let parts = ["v1.current.json: run the test once with ES_GOLDEN=write", "v2.current.json does not exist"];
    for part in parts {
        assert!(problems.iter().any(|problem| problem.contains(part)), "expected {part:?} in {problems:#?}");
    }
    assert_eq!(write::<third::ParcelEvent>(dir.path()), Vec::<String>::new());
    assert_eq!(check::<third::ParcelEvent>(dir.path()), Vec::<String>::new());
    let result = fs::read_to_string(dir.path().join("parcel-weighed.v1.current.json")).expect("written");
    assert!(result.contains("\"milligrams\": 454000"), "{result}");
}

/// Row 4 of the trial of a new user: a variant that was removed without `retired` passed.
#[test]
fn a_removed_variant_is_a_problem_until_it_is_retired() {
    let dir = corpus();
    let problems = write::<variant_removed::ParcelEvent>(dir.path());
    expect_one(&problems, &["parcel-sent.v1.json: no variant has the wire name \"parcel-sent\"", "`retired(...)`"]);
    assert_eq!(check::<variant_retired::ParcelEvent>(dir.path()), Vec::<String>::new());
}

#[test]
fn a_renamed_event_keeps_the_sample_of_its_former_name() {
    let dir = corpus();
    assert_eq!(write::<renamed::ParcelEvent>(dir.path()), Vec::<String>::new());
    assert_eq!(check::<renamed::ParcelEvent>(dir.path()), Vec::<String>::new());
    let result = fs::read_to_string(dir.path().join("parcel-weighed.v1.current.json")).expect("written");
    assert!(result.contains("parcel-on-scales"), "{result}");
}

/// Row 3 of the trial of a new user: the file of version 1 was there, and no code read it.
#[test]
fn a_file_of_a_version_that_is_not_read_is_a_problem() {
    let dir = corpus();
    let problems = write::<oldest_forgotten::ParcelEvent>(dir.path());
    expect_one(&problems, &["could not decode", "parcel-weighed.v1.json: unknown version 1", "(known: 2 to 2)"]);
}

#[test]
fn a_file_that_belongs_to_no_sample_is_a_problem() {
    let dir = corpus();
    fs::write(dir.path().join("parcel-lost.v1.current.json"), "[]").expect("written");
    expect_one(&check::<first::ParcelEvent>(dir.path()), &["parcel-lost.v1.current.json belongs to"]);
    fs::remove_file(dir.path().join("parcel-lost.v1.current.json")).expect("removed");
    fs::copy(dir.path().join("parcel-sent.v1.json"), dir.path().join("parcel-sent.v2.json")).expect("copied");
    expect_one(
        &check::<first::ParcelEvent>(dir.path()),
        &["parcel-sent.v2.json is the sample of", "version 1: rename"],
    );
    fs::write(dir.path().join("parcel-sent.v2.json"), "{}").expect("written");
    expect_one(&check::<first::ParcelEvent>(dir.path()), &["parcel-sent.v2.json is not a golden event"]);
    fs::rename(dir.path().join("parcel-sent.v2.json"), dir.path().join("notes.txt")).expect("renamed");
    assert_eq!(check::<first::ParcelEvent>(dir.path()), Vec::<String>::new());
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
