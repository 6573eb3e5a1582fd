//! What every store promises, as tests: each kind of store runs them all by [`contract!`].
//!
//! They must know no kind of store. What is only true of one is tested beside that one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

pub mod agents;
pub mod bundles;
pub mod clock;
pub mod entries;
pub mod events;
pub mod filters;
pub mod fixture;
pub mod members;
pub mod tokens;

/// Makes a test of each promise; `$fixture` is an async function that makes an empty store, as a `Fixture`.
macro_rules! contract {
    ($fixture:path) => {
        $crate::store::contract::contract! { $fixture,
            agents::a_renewed_svid_becomes_the_one_in_use_when_it_is_seen,
            agents::a_ban_holds_until_the_agent_is_deleted,
            agents::an_evicted_agent_takes_its_token_and_its_entries_with_it,
            agents::a_ban_ends_a_token_whatever_it_is,
            agents::a_reusable_token_lets_the_next_key_of_an_evicted_machine_in_with_its_entries,
            agents::an_agent_that_may_attest_again_keeps_its_entries,
            agents::agents_are_listed_by_filter_and_in_pages,
            bundles::appending_keeps_what_is_there_and_counts_changes,
            bundles::the_three_ways_to_delete,
            bundles::bundles_are_listed_by_name_in_pages,
            bundles::the_journal_and_the_bundle_change_together,
            bundles::of_many_changes_of_a_bundle_at_once_none_is_lost,
            clock::the_last_time_that_was_believed_is_kept,
            entries::an_entry_comes_back_as_it_was_given_with_id_and_time,
            entries::a_similar_entry_is_returned_and_not_stored_twice,
            entries::what_breaks_a_rule_is_refused_and_keeps_nothing_else_out,
            entries::an_update_sets_only_what_the_mask_names,
            entries::deleting_and_ending,
            entries::ten_thousand_entries_in_one_call,
            entries::of_many_updates_at_once_none_is_lost,
            events::every_change_is_in_the_log_once_and_in_order,
            events::a_reader_behind_the_pruned_part_is_told_so,
            events::the_latest_position_is_that_of_the_last_commit_and_followers_hear_of_it,
            events::what_was_answered_is_there_after_opening_again,
            events::a_follower_sees_every_commit_of_concurrent_writers_in_order,
            filters::selectors_match_in_the_four_ways,
            filters::trust_domains_match_in_the_four_ways,
            filters::the_other_filters_and_their_sum,
            filters::pages_follow_each_other_without_gap_or_repetition,
            filters::matching_is_what_set_theory_says,
            members::an_agent_comes_back_by_a_key_that_is_known_or_newer_than_all_that_is_known,
            members::an_agent_that_is_not_known_comes_back_unless_it_was_deleted_or_banned,
            members::no_clock_says_which_of_two_keys_is_the_later_one,
            members::an_evicted_key_of_a_reusable_token_does_not_come_back_also_once_another_joined,
            members::an_agent_that_is_not_known_binds_the_token_that_it_came_by,
            tokens::the_first_key_may_repeat_and_another_may_not,
            tokens::life_ends_for_everybody,
            tokens::of_many_keys_at_once_exactly_one_gets_in,
            tokens::a_token_whose_alias_is_refused_is_not_there_either,
            tokens::a_reusable_token_takes_one_key_after_another_while_it_lives,
            tokens::tokens_are_listed_and_deleted_by_their_names,
            tokens::nobody_becomes_an_agent_by_a_token_that_is_deleted_after_its_use,
        }
    };
    ($fixture:path, $($file:ident::$promise:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                $crate::store::contract::$file::$promise($fixture().await).await;
            }
        )*
    };
}

pub(super) use contract;
