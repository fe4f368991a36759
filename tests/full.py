"""Variants that `make test` leaves to `make chaos`, by the beginnings of their names: others of the same kind are in both.

Most of them start processes, kill them, and wait for leases; that is what makes a suite slow.
"""

import os

EVERYTHING = bool(os.environ.get("FULL"))

LEFT_OUT = (
    # the process dies at a step: each step by one of the two ways
    *(f"tests/faults/test_steps.py::test_a_process_that_dies_at_a_step_loses_nothing[{each}" for each in (
        "declarative-S3-", "declarative-S8-", "function-S1-", "function-S2-", "function-S6-", "function-S10-", "function-S11-", "function-S12-",
    )),
    "tests/faults/test_steps.py::test_a_worker_that_dies_around_the_call_of_the_function_loses_nothing[marker-",
    "tests/faults/test_steps.py::test_a_worker_that_dies_around_the_call_of_the_function_loses_nothing[filter-S4]",
    "tests/faults/test_steps.py::test_h4_after_a_crash_the_mark_filter_counts_a_difference_and_says_so[declarative]",
    "tests/faults/test_undo.py::test_a_rollback_whose_processes_die_at_a_step_loses_nothing[S3]",
    "tests/faults/test_undo.py::test_h12_a_worker_that_was_stopped_does_not_migrate_again_what_was_rolled_back",
    "tests/faults/test_schedules.py::test_parents_that_are_killed_in_a_loop[1]",
    "tests/faults/test_rabbitmq.py::test_a_worker_is_killed_in_the_middle_of_a_batch",
    "tests/faults/test_clusters.py::test_h3_a_claim_that_only_the_old_primary_knew_is_none",
    "tests/faults/test_troubles.py::test_an_awaited_function_that_cannot_be_cancelled_is_ended_with_its_process_and_alone_recorded[block]",
    "tests/faults/test_chaos.py::test_random_kills_lose_nothing[3]",
    "tests/integration/server_fixtures/test_servers.py::test_cluster_survives_the_leader_of_a_quorum_queue",
    "tests/faults/test_undo.py::test_a_run_that_keeps_images_may_die_too",
    "tests/faults/test_troubles.py::test_claimed_documents_are_taken_up_again_in_a_run_that_has_no_processing_phase",
    "tests/faults/test_rabbitmq.py::test_rabbitmq_is_stopped_and_started",
    "tests/faults/test_steps.py::test_a_process_that_dies_at_a_step_loses_nothing[function-S6b-",
    "tests/faults/test_undo.py::test_a_rollback_whose_processes_die_at_a_step_loses_nothing[S6]",
    "tests/faults/test_undo.py::test_a_rollback_whose_processes_die_at_a_step_loses_nothing[S10]",
    "tests/faults/test_undo.py::test_a_rollback_whose_processes_die_at_a_step_loses_nothing[S12]",
    "tests/faults/test_verification.py::test_a_process_that_dies_in_a_verification_changes_nothing_of_it[V1-",
    "tests/faults/test_schedules.py::test_a_scheduler_that_is_killed_at_each_step[T1]",
    # what the command line does as the API does, and servers that are started for one test
    "tests/integration/cli/test_cli.py::test_a_second_run_waits_and_can_be_cancelled",
    "tests/integration/cli/test_cli.py::test_a_run_is_rolled_back_and_cleaned_up",
    "tests/integration/cli/test_cli.py::test_settings_of_a_run_are_changed_while_it_goes_on",
    "tests/integration/cli/test_cli.py::test_a_run_outlives_its_embedded_mongodb",
    "tests/integration/cli/test_cli.py::test_a_filter_means_the_same_wherever_it_is_given",
    "tests/integration/api/test_serving.py::test_a_second_signal_does_not_wait_for_the_workers[SIGTERM]",
    "tests/integration/api/test_serving.py::test_rabbitmq_that_is_missing_at_the_start_is_waited_for",
    "tests/integration/api/test_secrets.py::test_passwords_that_are_refused_are_not_told",
    "tests/integration/api/test_queue.py::test_stopping_outlives_processes",
    "tests/integration/api/test_scheduler.py::test_commands_start_stop_and_show_the_scheduler",
    "tests/integration/api/test_serving.py::test_a_second_signal_does_not_wait_for_the_workers[SIGINT]",
    "tests/integration/api/test_queue.py::test_stopping_loses_nothing[ledger]",
    "tests/faults/test_verification.py::test_a_process_that_dies_in_a_verification_changes_nothing_of_it[S8-",
    "tests/faults/test_schedules.py::test_parents_that_are_killed_in_a_loop[2]",
    "tests/faults/test_schedules.py::test_a_scheduler_that_is_killed_at_each_step[T2]",
    # the kit proves other migrations in its own tests
    "tests/integration/documentation/test_authoring.py::test_the_pages_own_test_passes",
    "tests/integration/brokers/test_rabbitmq.py::test_a_pointer_that_is_always_turned_away_is_laid_aside_in_the_end[sent to the end]",
    # random kills: three seeds of eight
    *(f"tests/faults/test_chaos.py::test_random_kills_lose_nothing[{seed}]" for seed in range(4, 8)),
    # races with the declaration of the product itself
    "tests/integration/queueing/test_announcer.py::test_h66_a_broker_that_refuses_again_and_again_pauses_the_run",
    # a server of its own, on which every route is tried; the command line tries such a one in any case
    "tests/integration/api/test_stand_alone.py::test_everything_works_on_a_stand_alone_server",
    # the second broker, the second way to be cut off
    "tests/faults/test_storm.py::test_restarts_lose_nothing_and_never_two_runs_at_once[rabbitmq]",
    "tests/faults/test_stalls.py::test_no_slot_is_lost_and_no_run_pauses[rabbitmq-awaited]",
    "tests/faults/test_ends.py::test_a_parent_ends_with_its_children_while_mongodb_is_away[freeze]",
    "tests/faults/test_ends.py::test_children_are_told_at_once_though_the_parent_waits_for_the_ledger[kill]",
    "tests/faults/test_unanswered.py::test_a_run_is_not_over_while_a_statement_whose_connection_broke_goes_on[paused]",
    "tests/faults/test_unanswered.py::test_a_run_is_not_over_while_a_statement_whose_connection_broke_goes_on[function]",
    "tests/faults/test_unanswered.py::test_the_statement_of_a_killed_worker_has_ended_before_a_run_is_over[paused]",
    "tests/faults/test_unanswered.py::test_a_document_that_takes_longer_than_lease_and_grace_is_waited_for[killed]",
    "tests/faults/test_troubles.py::test_an_awaited_function_that_cannot_be_cancelled_is_ended_with_its_process_and_alone_recorded[cling]",
    # RabbitMQ: nodes that are started for one test, and what others meet too
    "tests/faults/test_clusters.py::test_one_of_three_rabbitmq_nodes_is_killed",
    "tests/faults/test_clusters.py::test_a_run_outlives_the_session_limit",
    "tests/faults/test_rabbitmq.py::test_two_coordinators",
    "tests/faults/test_rabbitmq.py::test_a_run_outlives_the_consumer_timeout",
    "tests/faults/test_rabbitmq.py::test_the_coordinator_is_killed",
    "tests/faults/test_rabbitmq.py::test_all_queues_are_purged",
    "tests/faults/test_rabbitmq.py::test_connections_churn",
    "tests/faults/test_rabbitmq.py::test_a_redelivery_storm",
    "tests/faults/test_rabbitmq.py::test_a_wire_is_cut_frozen_and_slowed[database]",
    "tests/faults/test_rabbitmq.py::test_an_unconfirmed_broker_slows_the_coordinator",
    "tests/faults/test_rabbitmq.py::test_a_queue_is_deleted",
    # the second way to write, marks and kinds of a matrix of which the others stand for them
    *(f"tests/integration/mongo/test_collation.py::test_a_filter_means_what_it_means_to_the_collection[{each}" for each in (
        "letters-function", "numbers-function", "shifted-function", "case-update",
    )),
    "tests/integration/mongo/test_collation.py::test_an_update_compares_as_the_collection_does[update-undo]",
    *(f"tests/integration/running/test_replaced_collections.py::test_it_pauses_and_says_what_happened[{each}" for each in (
        "function-dropped", "function-made_anew", "function-renamed_over", "function-renamed_away",
    )),
    *(f"tests/integration/running/test_replaced_collections.py::test_at_whatever_moment[{each}]" for each in ("S1", "S5", "S10")),
    *(f"tests/integration/running/test_replaced_collections.py::test_with_the_new_one_it_begins_afresh[{each}]" for each in ("function", "filter", "claimed")),
    *(f"tests/integration/mongo/test_documents_examined.py::test_few_documents_of_an_index_are_found_by_it[{each}" for each in (
        "marker, function-equality", "filter, declared-equality", "status, declared-equality", "marker, declared-either", "marker, declared-ids",
    )),
    *(f"tests/integration/mongo/test_documents_examined.py::test_a_list_of_ids_costs_what_it_lists_and_travels_once[{each}" for each in (
        "some-marker, function", "some-filter, declared", "most-marker, declared",
    )),
    *(f"tests/integration/mongo/test_documents_examined.py::test_a_run_needs_no_statement_over_the_collection[{each}" for each in (
        "marker, function", "filter, declared",
    )),
    "tests/integration/mongo/test_documents_examined.py::test_nor_does_it_for_any_kind_of_id[ObjectId]",
    "tests/integration/mongo/test_documents_examined.py::test_nor_does_it_for_any_kind_of_id[int]",
    "tests/integration/mongo/test_documents_examined.py::test_nor_what_follows_a_run[marker, declared-verify]",
    "tests/integration/mongo/test_documents_examined.py::test_nor_what_follows_a_run[status, function-cleanup]",
    *(f"tests/integration/mongo/test_documents_examined.py::test_a_clustered_collection_is_migrated_whatever_its_index_is_called[{each}" for each in (
        "marker, declared-None", "marker, function-by the key", "status, function-None",
    )),
    *(f"tests/integration/verifying/test_verification.py::test_a_planted_fault_is_found[{each}]" for each in (
        "a mark of nobody", "a mark of no outcome", "a mark that is no text", "a mark that is null", "an overlap", "a lost end",
        "a first batch that is not open", "a batch that counted too much", "a run that counted too much",
    )),
    *(f"tests/integration/verifying/test_verification.py::test_inserts_beside_a_run_are_no_fault_and_a_planted_one_is_found[{each}]" for each in (
        "ObjectId-status", "int-filter", "string-marker", "string-status", "int-status",
    )),
    *(f"tests/integration/executing/test_unusable_answers.py::test_it_is_one_failure_of_each_document_without_a_retry[{each}]" for each in (
        "generous", "listing", "unawaited", "operators", "unstorable", "alarmed-loop",
    )),
    *(f"tests/integration/executing/test_document_sizes.py::test_h34_a_document_of_9_mb_takes_a_change_of_6_mb_and_is_guarded[{each}]" for each in (
        "set-reads another", "push-whole", "push-reads it",
    )),
    *(f"tests/integration/executing/test_chunk_progress.py::test_h62_after_a_crash_only_what_is_not_known_is_done_again_and_counted[{place}-{each}" for place in (
        "in the last chunk", "between two", "in the part of a chunk", "notes were lost", "in the first chunk",
    ) for each in ("update-status", "function-status")),
    "tests/faults/test_chunks.py::test_h62_an_update_killed_in_its_last_chunk_does_only_that_again[filter]",
    "tests/faults/test_stages.py::test_a_staged_run_survives_the_death_of_a_process[S1-",
    "tests/faults/test_stages.py::test_a_staged_run_survives_the_death_of_a_process[S11-",
    "tests/integration/coordinating/test_stages.py::test_stages_are_spread_and_nothing_is_done_twice[declared]",
    "tests/integration/coordinating/test_stages.py::test_stages_are_spread_and_nothing_is_done_twice[by-status]",
    "tests/faults/test_chunks.py::test_h62_a_function_killed_in_its_last_chunk_is_asked_for_nothing_else_again[marker]",
    # the tests' own servers
    "tests/integration/server_fixtures/test_servers.py::",
    # clusters of three: the primary is killed in both
    "tests/faults/test_clusters.py::test_one_of_three_rabbitmq_nodes_is_killed",
    "tests/faults/test_clusters.py::test_h38_",
    "tests/faults/test_clusters.py::test_h62_",
    "tests/integration/mongo/test_client_options.py::test_a_secondary_that_lags_is_not_asked",
    "tests/integration/mongo/test_client_options.py::test_the_dry_run_and_the_kit_see_uuids_as_a_run_does",
    "tests/faults/test_rabbitmq.py::test_a_wire_is_cut_frozen_and_slowed[broker]",
    "tests/faults/test_ends.py::test_a_parent_ends_with_its_children_while_mongodb_is_away[cut]",
    "tests/faults/test_schedules.py::test_a_scheduler_that_is_killed_at_each_step[T3]",
    "tests/faults/test_verification.py::test_a_process_that_dies_in_a_verification_changes_nothing_of_it[S12",
    "tests/integration/workers/test_user_code.py::test_migrations_that_cannot_be_loaded_in_workers_end_the_work_with_the_reason[hangs]",
    "tests/integration/mongo/test_documents_examined.py::test_nor_what_follows_a_run[marker, declared-rollback]",
    "tests/integration/author_kit/test_check_migration.py::test_the_test_that_new_writes_passes_as_it_is",
    "tests/integration/author_kit/test_check_migration.py::test_a_migration_that_keeps_its_promises",
    "tests/integration/executing/test_async_functions.py::test_the_authors_kit_calls_the_same_way",
    "tests/integration/ledger/test_format.py::test_runs_of_an_earlier_format_are_finished_rightly[2]",
    "tests/integration/coordinating/test_lost_rows.py::test_lost_batches_pause_the_run_which_can_be_cancelled_and_made_anew[_restored]",
    "tests/integration/workers/test_memory_limit.py::test_a_document_that_alone_needs_more_is_a_failure_and_the_others_are_done",
    "tests/faults/test_unanswered.py::test_what_a_majority_has_not_yet_is_counted_too",
    "tests/faults/test_rabbitmq.py::test_the_broker_is_wiped",
    "tests/integration/author_kit/test_check_migration.py::test_without_an_address_an_embedded_mongodb_is_started",
    "tests/integration/api/test_outages.py::test_the_disk_of_the_embedded_mongodb_is_full",
    "tests/integration/cli/test_ctrl_c.py::test_while_migrations_are_loaded[worker]",
    "tests/integration/cli/test_ctrl_c.py::test_while_migrations_are_loaded[migrations]",
    # seen otherwise in `make test`: over HTTP, by other tests of the same, or by one of several variants
    "tests/integration/workers/test_user_code.py::test_a_module_that_takes_its_process_apart_is_loaded_and_the_process_ends[wrapped",
    "tests/integration/workers/test_user_code.py::test_a_module_that_takes_its_process_apart_is_loaded_and_the_process_ends[numbers",
    "tests/integration/workers/test_user_code.py::test_a_module_that_takes_its_process_apart_is_loaded_and_the_process_ends[replaced",
    "tests/integration/cli/test_cli.py::test_a_run_is_verified",
    "tests/integration/cli/test_cli.py::test_a_run_with_failures_says_how_to_look_and_retry",
    "tests/integration/mongo/test_documents_examined.py::test_nor_what_follows_a_run[status, function-rollback]",
    "tests/integration/api/test_queue.py::test_stopping_loses_nothing[rabbitmq]",
    "tests/integration/api/test_queue.py::test_monitoring_says_that_the_broker_is_away",
    "tests/integration/brokers/test_rabbitmq.py::test_no_statement_of_a_run_through_rabbitmq_needs_the_collection",
    "tests/integration/coordinating/test_lost_rows.py::test_lost_batches_pause_the_run_which_can_be_cancelled_and_made_anew[_one_deleted]",
    # most signals of the health are driven here only: each waits for real servers
    "tests/integration/sampling/test_signals.py::test_writes_that_wait_for_flow_control",
    "tests/integration/sampling/test_signals.py::test_the_oplog_counts_once",
    "tests/integration/sampling/test_signals.py::test_a_frozen_member_is_silent",
    "tests/integration/sampling/test_signals.py::test_a_member_that_is_down_leaves",
    "tests/integration/sampling/test_signals.py::test_a_small_cache_is_dirty",
    "tests/integration/sampling/test_signals.py::test_a_slow_read_is_compared",
    "tests/integration/sampling/test_signals.py::test_operations_that_wait_for_tickets",
    "tests/integration/sampling/test_signals.py::test_write_conflicts_are_counted",
    # waiting, through processes, RabbitMQ and all kinds of runs; in one process it is seen in `make test`
    "tests/faults/test_waiting.py::test_kills_while_a_run_waits_cost_it_nothing",
    "tests/integration/coordinating/test_held_runs.py::test_pointers_do_not_go_round_while_a_run_waits",
    "tests/integration/coordinating/test_held_runs.py::test_verifications_and_rollbacks_wait_too",
    # following: half of the steps, and a server with fail points
    "tests/faults/test_following.py::test_processes_that_die_while_a_run_follows_lose_and_double_nothing[S8-",
    "tests/faults/test_following.py::test_processes_that_die_while_a_run_follows_lose_and_double_nothing[S2-",
    "tests/faults/test_following.py::test_processes_that_die_while_a_run_follows_lose_and_double_nothing[S6-",
    "tests/faults/test_following.py::test_a_sweep_makes_up_for_a_stream_that_mongodb_cannot_continue",
    "tests/integration/coordinating/test_following.py::test_all_that_an_application_writes_meanwhile_is_changed_once[declared]",
    "tests/integration/coordinating/test_following.py::test_where_mongodb_does_not_know_what_changed_a_sweep_makes_up_for_it[unknown]",
    # the statement that writes an event with its change is tested without kills in any case
    "tests/faults/test_webhooks.py::test_a_sender_that_is_killed_in_a_loop_tells_every_change",
    # the same with another kill, or from another format
    "tests/faults/test_stages.py::test_a_staged_run_survives_the_death_of_a_process[S6-2-2-function-filter]",
    "tests/integration/ledger/test_format.py::test_runs_of_an_earlier_format_are_finished_rightly[2]",
)  # fmt: skip
