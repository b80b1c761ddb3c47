-- What can be called over HTTPS: the protocol's functions, the monitors', the limiter's, and what health and verify read.
-- PostgREST keeps a list of what there is; where it listens, it makes a new one.
SELECT holdfast.expose_functions(ARRAY[
    'adopt_notifications', 'announce_channels', 'announce_service', 'beat', 'begin_looks', 'begin_sweep',
    'cancel_jobs', 'capture_dead_letters', 'change_redrive', 'check_leases', 'check_rate_limit', 'claim',
    'claim_notifications', 'claim_redrive', 'collect_dead_jobs', 'count_events', 'create_api_key',
    'dead_jobs_expiring', 'dead_letter_groups', 'declare_schedules', 'discard_dead_letters', 'end_look',
    'end_sweep', 'enqueue', 'enqueue_jobs', 'enqueue_many', 'enqueue_once', 'enqueue_one', 'enqueue_plain_jobs',
    'enqueue_request', 'find_stale_jobs', 'health_dead', 'health_jobs', 'health_limits', 'health_monitors',
    'health_queues', 'health_report', 'health_server', 'health_stale', 'health_told', 'health_workers',
    'incident_ack', 'incident_history', 'incident_silence', 'job', 'job_events', 'job_outcomes', 'key_ring',
    'last_sweep', 'letter_groups', 'letter_history', 'list_api_keys', 'list_dead_letter_queues', 'list_incidents',
    'list_jobs', 'list_letters', 'list_queues', 'list_rate_limits', 'list_redrives', 'list_schedules',
    'list_services', 'list_workers', 'live_kinds', 'locked_stale_jobs', 'mark_workers_gone', 'matching_ids',
    'matching_jobs', 'migration_records', 'note_api_key_use', 'note_dead_letters', 'note_job_stats',
    'note_moved_letters', 'oldest_transaction', 'open_incidents', 'pause_channel', 'pause_queues', 'pause_schedule',
    'ping', 'probe_find_stale_jobs', 'probe_rate_limit_requests', 'probe_stale_jobs_view', 'progress', 'prune',
    'prune_bookkeeping', 'prune_letters', 'queues_to_ring', 'rate_limit_beat', 'rate_limit_hits', 'rate_limit_key',
    'rate_limit_leave', 'rate_limit_peek', 'rate_limit_prune', 'rate_limit_refund', 'rate_limit_reset',
    'rate_limit_rules', 'rate_limit_set_rule', 'rate_limit_table', 'record_incidents', 'redrive_dead_letters',
    'redrive_jobs', 'register_worker', 'release_lost_claims', 'remove_schedule', 'rescue_stale_jobs', 'retry_jobs',
    'revoke_api_key', 'ring', 'run_status', 'schema_catalog', 'schema_owner', 'settle', 'settle_notification',
    'settle_redrive_messages', 'show_letter', 'show_rate_limits', 'suspects_waiting', 'take_redrive_messages',
    'tick_schedule', 'top_rate_limits', 'withdraw_service']);
NOTIFY pgrst, 'reload schema';
