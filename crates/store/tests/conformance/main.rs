//! Decides what a store is: one suite that both engines must pass, and what only a file can get wrong.

mod accounts;
mod bridge;
mod control;
mod exchange;
mod file;
mod harness;
mod leases;
mod ledger;
mod liquidity;
mod market;
mod only_postgres;
mod only_sqlite;
mod pools;
mod skills;
mod suite;
mod tools;
mod treasury;

/// Runs every function of the suite on both engines, each in a store of its own.
macro_rules! on_both_engines {
    ($sqlite:ident $postgres:ident $suite:ident: $($name:ident),+ $(,)?) => {
        mod $sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::$suite::$name(crate::harness::Place::sqlite()).await;
                }
            )+
        }
        mod $postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::$suite::$name(crate::harness::Place::postgres()).await;
                }
            )+
        }
    };
}

on_both_engines!(on_sqlite on_postgres suite:
    parallel_writers_on_one_key_get_contiguous_numbers,
    a_refusal_undoes_its_own_command_only,
    a_failed_statement_undoes_the_command_even_when_it_answers,
    what_a_command_logs_belongs_to_the_request_that_asked_for_it,
    a_command_that_panics_harms_nobody,
    a_command_that_waits_for_something_else_harms_nobody,
    readers_never_see_what_is_not_committed,
    a_reader_sees_what_was_answered_before_it_asked,
    a_read_keeps_its_snapshot,
    a_read_cannot_write,
    a_unique_violation_is_answered_and_harms_nobody,
    every_value_comes_back_as_it_was_given,
    a_text_with_a_nul_is_refused_alike,
    a_wrong_kind_names_the_statement_and_the_column,
    a_wrong_number_of_parameters_is_a_fault,
    thirty_two_duplicates_have_one_effect,
    another_request_under_a_used_key_is_a_mismatch,
    the_outbox_hands_out_in_the_order_of_writing,
    a_lease_runs_out_and_the_message_comes_again,
    a_message_that_nobody_can_deliver_is_kept_and_counted,
    a_message_whose_takers_vanish_is_given_up,
    parallel_claims_never_share_a_message,
    a_message_of_a_refused_command_is_never_sent,
    wakes_come_after_the_commit_and_only_for_what_is_kept,
    a_changed_column_breaks_its_seal,
    a_restart_keeps_everything,
    a_changed_migration_refuses_to_start,
    a_newer_store_refuses_to_start,
    a_gap_in_the_history_refuses_to_start,
    a_probe_writes_and_reads,
    closing_answers_what_was_queued,
    a_closed_store_says_so,
    an_answer_nobody_waits_for_is_still_kept,
    a_whole_check_finds_the_row_that_was_changed,
    threads_come_back_as_they_were_written,
    codex_rows_come_back_as_they_were_written,
    a_crowd_of_readers_and_writers_is_answered,
    a_tool_call_is_one_row_and_only_expired_answers_are_forgotten,
    a_subject_has_one_payment_that_has_not_failed,
    a_days_spending_is_nothing_until_it_is_something,
    receipts_come_newest_first_and_to_their_owner_only,
);

on_both_engines!(ledger_on_sqlite ledger_on_postgres ledger:
    thirty_two_transfers_never_overdraw_an_account,
    thirty_two_repetitions_of_a_transfer_move_money_once,
    crossing_transfers_end_without_a_circle,
    an_id_stands_for_one_content_for_ever,
    a_hold_is_captured_in_part_and_the_rest_is_free,
    two_assets_move_together_or_not_at_all,
    a_hold_expires_when_its_time_is_over_and_a_pinned_one_never,
    a_reservation_holds_in_every_budget_around_it_or_in_none,
    thirty_two_reservations_never_exceed_the_narrowest_budget,
    a_closed_account_takes_nothing_more,
    an_auditor_names_the_account_and_the_entry_that_do_not_fit,
);

on_both_engines!(treasury_on_sqlite treasury_on_postgres treasury:
    a_settlement_comes_back_as_it_was_written,
    reservations_are_found_by_age_and_settlements_by_owner,
    what_a_dispatch_received_is_settled_under_one_name,
    sums_follow_what_is_counted_by_many_at_once,
    findings_stay_until_they_are_explained,
);

on_both_engines!(liquidity_on_sqlite liquidity_on_postgres liquidity:
    a_payment_comes_back_as_it_was_written_and_is_found_while_it_is_open,
    a_hash_is_paid_once_unless_paying_it_failed,
    counters_add_up_and_breakers_come_back,
    a_wallet_remembers_what_it_may_have_spent,
);

on_both_engines!(pools_on_sqlite pools_on_postgres pools:
    deposits_come_back_and_one_payment_mints_once,
    the_queue_is_looked_through_in_its_order,
    old_snapshots_go_and_trees_with_the_last_that_needs_them,
);

on_both_engines!(exchange_on_sqlite exchange_on_postgres exchange:
    requests_and_quotes_come_back_as_they_stand,
    requests_are_due_when_their_time_is_over_and_nothing_became_of_them,
    of_a_requests_quotes_one_is_paid,
    exchanges_are_counted_and_their_median_is_found_without_a_list,
    envelopes_are_open_at_a_moment_and_found_when_they_are_over,
    settlements_and_debts_are_added_up,
);

on_both_engines!(leases_on_sqlite leases_on_postgres leases:
    a_lease_has_one_holder_and_its_token_grows_with_every_term,
    a_lease_that_is_released_is_free_at_once,
    thirty_two_who_would_lead_begin_one_term,
    what_a_leader_of_yesterday_has_in_hand_is_not_kept,
    a_lease_is_not_taken_in_the_middle_of_a_leaders_transaction,
    a_credential_is_good_once_among_all_who_ask,
);

on_both_engines!(bridge_on_sqlite bridge_on_postgres bridge:
    an_event_waits_for_every_relay_until_that_relay_has_it,
    a_later_event_of_an_address_takes_the_place_of_the_earlier,
    what_is_refused_waits_and_is_given_up_in_the_end,
    a_queue_keeps_its_newest_events_and_every_ad,
    an_ad_is_found_by_its_address_and_by_its_worker,
);
