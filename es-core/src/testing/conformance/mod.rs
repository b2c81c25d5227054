//! The conformance suite: tests that every [`EventStore`] must pass.
//!
//! ```
//! use std::sync::Arc;
//! use async_trait::async_trait; // or write the boxed futures by hand
//! use es_core::store::{implement::PrepareHook, memory::MemoryStore};
//! use es_core::{EventStore, model::Clock, testing::conformance::Harness};
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
//!     async fn open_with_clock(&self, clock: Arc<dyn Clock>) -> Option<Arc<dyn EventStore>> {
//!         Some(Arc::new(MemoryStore::with_clock(clock)))
//!     }
//!     async fn reopen(&self, _: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
//!         None // it is not persistent
//!     }
//! }
//!
//! es_core::conformance_tests!(Memory);
//! # assert!(es_core::testing::conformance::CASES.len() > 30);
//! ```
//!
//! Each case opens its own store. A case that fails panics with the expected and the found value.

mod appends;
mod closing;
mod concurrency;
mod conditions;
mod copies;
mod hooks;
mod idempotency;
mod keys;
mod locks;
mod positions;
mod reads;
mod retention;
mod tables;
mod tools;
mod visits;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;

use crate::model::Clock;
use crate::store::EventStore;
use crate::store::implement::PrepareHook;

/// Opens the stores that the suite tests.
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// Opens a new, empty store.
    async fn open(&self) -> Arc<dyn EventStore> {
        self.open_with(Vec::new()).await
    }

    /// Opens a new, empty store with hooks.
    async fn open_with(&self, hooks: Vec<Arc<dyn PrepareHook>>) -> Arc<dyn EventStore>;

    /// Opens a new, empty store that uses a clock; `None` if the store cannot use another clock than the system's.
    async fn open_with_clock(&self, clock: Arc<dyn Clock>) -> Option<Arc<dyn EventStore>>;

    /// Closes a store of this harness and opens it again; `None` for a store that is not persistent. The suite has
    /// dropped every other handle to the store.
    async fn reopen(&self, store: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>>;
}

/// One test of the suite.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The name of the case, a statement about the store.
    pub name: &'static str,
    run: for<'a> fn(&'a dyn Harness) -> CaseFuture<'a>,
}

type CaseFuture<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

impl Case {
    /// Runs the case on its own runtime.
    ///
    /// # Panics
    /// If the store does not conform, or the runtime cannot be created.
    pub fn run(&self, harness: &dyn Harness) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
        runtime.expect("a runtime for the test").block_on((self.run)(harness));
    }
}

/// Calls a macro with all cases, as `module::name`.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ($callback:ident!($($argument:tt)*)) => {
        $crate::$callback! {
            ($($argument)*)
            appends::positions_count_from_one_and_revisions_from_zero,
            appends::one_commit_keeps_the_order_of_its_streams,
            appends::an_event_is_read_as_it_was_written,
            appends::a_stamp_is_stored,
            appends::an_empty_commit_changes_nothing,
            appends::unusual_names_are_read_as_written,
            appends::a_commit_that_breaks_a_limit_is_rejected,
            appends::times_have_microseconds_and_recorded_times_never_decrease,
            appends::a_large_commit_is_one_commit,
            appends::a_restart_preserves_all_events,
            conditions::any_accepts_every_stream,
            conditions::no_stream_rejects_an_existing_stream,
            conditions::stream_exists_rejects_a_missing_stream,
            conditions::exact_rejects_every_other_revision,
            conditions::a_stream_can_be_checked_without_being_written,
            conditions::a_conflict_lists_all_failed_checks,
            conditions::a_rejected_commit_leaves_no_trace,
            conditions::an_append_condition_checks_only_later_events,
            conditions::an_append_condition_ahead_of_the_log_is_rejected,
            conditions::an_append_condition_matches_any_item_with_all_its_tags,
            conditions::an_append_condition_ignores_its_own_commit,
            conditions::conditions_hold_after_a_restart,
            idempotency::a_repeated_commit_returns_the_first_result,
            idempotency::a_repeat_is_recognized_for_every_expectation,
            idempotency::a_repeat_is_recognized_after_others_have_written,
            idempotency::a_repeat_changes_no_rows,
            idempotency::a_partial_repeat_is_rejected,
            idempotency::an_id_with_other_content_is_rejected,
            idempotency::an_id_with_other_metadata_or_times_is_rejected,
            idempotency::an_id_in_another_stream_is_rejected,
            idempotency::a_repeat_in_other_commits_is_rejected,
            idempotency::a_repeated_id_in_one_commit_is_rejected,
            idempotency::a_repeat_is_recognized_after_a_restart,
            keys::a_unique_key_has_one_owner,
            keys::keys_of_different_scopes_are_different,
            keys::a_key_can_move_to_another_stream_in_one_commit,
            keys::a_conflict_lists_all_taken_keys,
            keys::keys_are_part_of_their_event,
            keys::a_repeat_changes_no_keys,
            keys::keys_survive_a_restart,
            keys::a_deletion_releases_the_keys_of_its_stream,
            keys::a_commit_can_delete_a_stream_and_claim_its_keys,
            keys::a_claim_outlives_its_event,
            keys::keys_have_limits,
            locks::a_prepared_transaction_locks_its_streams,
            locks::a_committed_transaction_writes_exactly_the_decided_events,
            locks::an_aborted_transaction_unlocks_its_streams,
            locks::only_the_holder_finishes_a_transaction,
            locks::events_of_transactions_are_validated,
            locks::a_lock_covers_conditions_keys_and_deletions,
            locks::everything_is_decided_when_it_is_prepared,
            locks::a_refused_preparation_leaves_no_lock,
            locks::a_repeat_is_recognized_beside_a_lock,
            locks::locks_survive_a_restart,
            locks::one_transaction_locks_a_stream,
            locks::a_log_with_transactions_can_be_copied,
            locks::what_cannot_be_committed_is_not_prepared,
            reads::a_stream_reads_forward_and_backward_from_anywhere,
            reads::the_log_reads_forward_and_backward_from_anywhere,
            reads::streams_are_listed_in_the_order_of_their_names,
            reads::a_store_is_described,
            reads::categories_types_and_tags_select_events,
            reads::query_items_are_alternatives_and_each_event_is_returned_once,
            reads::names_with_a_common_prefix_are_distinct,
            reads::a_filtered_read_reports_the_scanned_position,
            reads::a_limit_ends_a_read,
            reads::a_read_ignores_later_commits,
            reads::long_reads_are_complete,
            reads::reads_of_missing_items_are_empty,
            reads::an_event_is_found_by_its_id,
            visits::a_visit_returns_the_events_of_a_read,
            visits::a_long_visit_returns_the_events_of_a_read,
            visits::a_visit_skips_hidden_events,
            positions::a_position_is_checked_against_the_log,
            positions::a_clock_before_1970_is_refused,
            positions::recorded_times_never_decrease_when_the_clock_is_set_back,
            retention::rules_hide_old_events_in_every_read,
            retention::a_rule_cannot_truncate_events_that_are_not_written,
            retention::a_maximum_age_hides_old_events,
            retention::conditions_and_lookups_ignore_hidden_events,
            retention::a_soft_deleted_stream_continues_at_the_next_revision,
            retention::a_hard_deleted_stream_is_never_written_again,
            retention::a_deletion_can_be_repeated,
            retention::a_deletion_has_conditions,
            retention::reserved_streams_accept_only_operator_events,
            retention::a_scavenge_removes_hidden_events_and_keeps_all_numbers,
            retention::a_checkpoint_in_a_removed_range_continues_after_it,
            retention::removed_events_can_be_copied,
            retention::reads_continue_during_a_scavenge,
            retention::a_scavenge_can_be_stopped,
            retention::a_compaction_changes_nothing_that_is_read,
            tables::rows_change_with_their_commit,
            tables::a_row_condition_compares_the_value,
            tables::rows_are_scanned_in_order_by_prefix,
            tables::tables_are_separate,
            tables::rows_survive_a_restart,
            concurrency::one_writer_wins_each_revision,
            concurrency::positions_have_no_gaps_under_concurrent_writers,
            concurrency::one_writer_claims_a_unique_key,
            concurrency::one_writer_passes_an_append_condition,
            concurrency::concurrent_repeats_write_once,
            concurrency::a_reader_never_sees_a_gap,
            concurrency::a_reader_never_sees_a_partial_commit,
            concurrency::an_acknowledged_commit_is_seen_by_the_next_read,
            concurrency::a_dropped_commit_is_whole_or_absent,
            concurrency::a_new_head_wakes_its_watchers,
            hooks::a_hook_rejects_a_commit_with_its_own_error,
            hooks::a_hook_cannot_exceed_the_limits,
            hooks::a_hook_adds_rows_and_sees_earlier_commits,
            hooks::a_hook_adds_events,
            hooks::a_hook_drops_events,
            hooks::a_hook_stamps_events,
            hooks::a_store_knows_its_own_origins_from_a_hook,
            copies::a_commit_can_have_a_recorded_time,
            copies::commit_all_returns_one_result_per_commit_in_order,
            copies::a_foreign_commit_has_no_conditions,
            copies::a_foreign_commit_is_written_as_a_whole,
            copies::a_foreign_event_of_a_hard_deleted_stream_stays_hidden,
            copies::a_foreign_event_does_not_revive_a_soft_deleted_stream,
            copies::reserved_names_are_rejected,
            closing::a_closed_store_rejects_every_call,
            closing::commits_before_the_close_are_written,
            closing::a_follower_learns_that_the_store_was_closed,
            closing::each_opening_has_its_own_number,
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_list {
    (() $($module:ident::$case:ident,)*) => {
        /// All cases of the suite.
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
                case.expect("the list contains the case").run(&$harness);
            }
        )*
    };
}

/// Defines one `#[test]` for each case of the [suite](crate::testing::conformance) with a harness.
#[macro_export]
macro_rules! conformance_tests {
    ($harness:expr) => {
        $crate::__conformance_cases! { __conformance_test_functions!($harness) }
    };
}

crate::__conformance_cases! { __conformance_list!() }
