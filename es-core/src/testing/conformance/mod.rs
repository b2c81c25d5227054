//! The conformance suite: what every [`EventStore`] must do, as tests that any store can run.
//!
//! ```
//! use std::sync::Arc;
//! use async_trait::async_trait; // or write the boxed futures by hand
//! use es_core::{EventStore, store::{implement::PrepareHook, memory::MemoryStore}, testing::conformance::Harness};
//!
//! struct Memory;
//!
//! #[async_trait]
//! impl Harness for Memory {
//!     async fn open_with(&self, hooks: Vec<Arc<dyn PrepareHook>>) -> Arc<dyn EventStore> {
//!         let mut store = MemoryStore::new();
//!         for hook in hooks {
//!             store = store.with_hook(hook).await.expect("the hook starts");
//!         }
//!         Arc::new(store)
//!     }
//!     async fn reopen(&self, _: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
//!         None // it forgets
//!     }
//! }
//!
//! es_core::conformance_tests!(Memory);
//! # assert!(es_core::testing::conformance::CASES.len() > 30);
//! ```
//!
//! Each case gets a store of its own. A case fails by panicking with what was expected and what was found.

mod appends;
mod closing;
mod concurrency;
mod conditions;
mod copies;
mod hooks;
mod idempotency;
mod keys;
mod reads;
mod retention;
mod tables;
mod tools;
mod visits;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;

use crate::store::EventStore;
use crate::store::implement::PrepareHook;

/// How the suite gets stores.
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// Opens a new, empty store.
    async fn open(&self) -> Arc<dyn EventStore> {
        self.open_with(Vec::new()).await
    }

    /// Opens a new, empty store with hooks.
    async fn open_with(&self, hooks: Vec<Arc<dyn PrepareHook>>) -> Arc<dyn EventStore>;

    /// Closes a store that [`open`](Self::open) gave, and opens it again; `None` for a store that forgets everything.
    /// The suite has dropped every other handle to it.
    async fn reopen(&self, store: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>>;
}

/// One test of the suite.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name: a sentence about the store.
    pub name: &'static str,
    run: for<'a> fn(&'a dyn Harness) -> Running<'a>,
}

/// A case that runs.
type Running<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

impl Case {
    /// Runs it on a runtime of its own.
    ///
    /// # Panics
    /// When the store does not conform, or no runtime can be had.
    pub fn run(&self, harness: &dyn Harness) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
        runtime.expect("a runtime for the test").block_on((self.run)(harness));
    }
}

/// Hands all cases, as `module::name`, to a macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ($callback:ident!($($argument:tt)*)) => {
        $crate::$callback! {
            ($($argument)*)
            appends::positions_count_from_one_and_revisions_from_zero,
            appends::one_commit_keeps_the_order_of_its_streams,
            appends::all_of_an_event_comes_back,
            appends::a_stamp_is_kept_or_refused,
            appends::an_empty_commit_changes_nothing,
            appends::names_of_real_logs_come_back,
            appends::what_breaks_a_limit_is_refused,
            appends::times_are_kept_to_the_microsecond_and_never_go_back,
            appends::a_large_commit_is_whole,
            appends::everything_is_there_after_a_restart,
            conditions::any_takes_every_stream,
            conditions::no_stream_refuses_an_existing_one,
            conditions::stream_exists_refuses_a_missing_one,
            conditions::exact_refuses_every_other_revision,
            conditions::a_stream_can_be_checked_without_being_written,
            conditions::all_failed_checks_come_back_together,
            conditions::nothing_of_a_refused_commit_is_there,
            conditions::a_query_condition_sees_only_what_is_behind_its_position,
            conditions::a_query_condition_is_any_item_and_all_tags,
            conditions::a_query_condition_does_not_see_its_own_commit,
            conditions::conditions_hold_after_a_restart,
            idempotency::a_repeated_commit_gives_its_first_result,
            idempotency::a_repeat_is_recognized_for_every_expectation,
            idempotency::a_repeat_is_recognized_after_others_have_written,
            idempotency::a_repeat_changes_no_rows,
            idempotency::a_partial_repeat_is_refused,
            idempotency::an_id_with_other_content_is_refused,
            idempotency::an_id_in_another_stream_is_refused,
            idempotency::a_commit_split_otherwise_is_refused,
            idempotency::an_id_twice_in_one_commit_is_refused,
            idempotency::a_repeat_is_recognized_after_a_restart,
            keys::a_unique_key_has_one_owner,
            keys::keys_of_different_scopes_are_different,
            keys::a_key_can_be_handed_over_in_one_commit,
            keys::all_keys_that_are_taken_are_named,
            keys::keys_are_part_of_their_event,
            keys::a_repeat_changes_no_keys,
            keys::keys_survive_a_restart,
            keys::a_deletion_frees_the_keys_of_its_stream,
            keys::a_commit_can_delete_a_stream_and_claim_its_keys,
            keys::a_claim_outlives_its_event,
            keys::keys_have_limits,
            reads::a_stream_reads_forward_and_backward_from_anywhere,
            reads::the_log_reads_forward_and_backward_from_anywhere,
            reads::categories_types_and_tags_select,
            reads::items_are_alternatives_and_come_in_order_once,
            reads::streams_and_tags_that_begin_alike_are_apart,
            reads::a_filtered_read_says_how_far_it_looked,
            reads::a_limit_ends_a_read,
            reads::a_read_shows_the_log_as_it_was_opened,
            reads::long_reads_come_whole,
            reads::what_is_not_there_is_empty,
            reads::an_event_is_found_by_its_id,
            visits::a_visit_gives_what_a_read_gives,
            visits::a_long_visit_gives_what_a_read_gives,
            visits::a_visit_passes_hidden_events,
            retention::rules_hide_old_events_in_every_read,
            retention::age_hides_and_a_scavenge_keeps_the_rest,
            retention::conditions_and_ids_see_what_is_visible,
            retention::a_soft_deleted_stream_begins_anew,
            retention::a_hard_deleted_stream_is_never_written_again,
            retention::a_deletion_has_conditions,
            retention::reserved_streams_take_only_what_operators_do,
            retention::a_scavenge_removes_what_is_hidden_and_keeps_the_numbers,
            retention::a_checkpoint_in_a_removed_range_goes_on_behind_it,
            retention::removed_events_can_be_copied,
            retention::reads_go_on_during_a_scavenge,
            tables::rows_change_with_their_commit,
            tables::a_row_condition_compares_the_value,
            tables::rows_are_scanned_in_order_by_prefix,
            tables::tables_are_apart,
            tables::rows_survive_a_restart,
            concurrency::one_writer_wins_each_revision,
            concurrency::positions_have_no_gaps_under_concurrent_writers,
            concurrency::one_writer_claims_a_unique_key,
            concurrency::one_writer_passes_a_query_condition,
            concurrency::concurrent_repeats_write_once,
            concurrency::a_reader_never_sees_a_gap,
            concurrency::a_commit_is_seen_whole,
            concurrency::an_acknowledged_commit_is_seen_by_the_next_read,
            concurrency::a_dropped_commit_is_whole_or_absent,
            concurrency::the_head_wakes_those_who_follow_it,
            hooks::a_hook_refuses_a_commit_with_its_own_error,
            hooks::the_limits_hold_for_a_hook,
            hooks::a_hook_adds_rows_and_sees_earlier_commits,
            hooks::a_hook_drops_events,
            hooks::a_hook_stamps_events,
            copies::a_commit_can_have_a_recorded_time,
            copies::many_commits_have_one_answer_each_in_order,
            copies::a_foreign_commit_has_no_conditions,
            copies::a_foreign_commit_is_kept_or_refused_whole,
            copies::a_foreign_event_of_a_hard_deleted_stream_stays_hidden,
            copies::a_foreign_event_does_not_revive_a_soft_deleted_stream,
            copies::reserved_names_are_refused,
            closing::a_closed_store_refuses_every_call,
            closing::commits_that_come_before_the_close_are_written,
            closing::a_follower_learns_that_the_store_was_closed,
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_list {
    (() $($module:ident::$case:ident,)*) => {
        /// Every case.
        pub const CASES: &[Case] = &[
            $(Case { name: stringify!($case), run: |harness| Box::pin($module::$case(harness)) },)*
        ];
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_test_functions {
    (($harness:expr) $($module:ident::$case:ident,)*) => {
        $(
            #[test]
            fn $case() {
                let name = stringify!($case);
                let case = $crate::testing::conformance::CASES.iter().find(|case| case.name == name);
                case.expect("the list of cases has it").run(&$harness);
            }
        )*
    };
}

/// Makes one `#[test]` of each case of the [suite](crate::testing::conformance) for the store of a harness.
#[macro_export]
macro_rules! conformance_tests {
    ($harness:expr) => {
        $crate::__conformance_cases! { __conformance_test_functions!($harness) }
    };
}

crate::__conformance_cases! { __conformance_list!() }
