SELECT provider, event_id, delivery_state, message_id, integration_id, recipient, occurred_at, reason, payload, fingerprint, received_at, seal
FROM delivery_events
WHERE provider = $1 AND event_id = $2
