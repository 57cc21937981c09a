INSERT INTO delivery_events (provider, event_id, delivery_state, message_id, integration_id, recipient, occurred_at, reason, payload, fingerprint, received_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
