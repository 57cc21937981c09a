INSERT INTO bridge_outgoing (relay, address, event_id, kind, event, queued_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (relay, address) DO UPDATE SET event_id = excluded.event_id, kind = excluded.kind, event = excluded.event,
  queued_at = excluded.queued_at, seal = excluded.seal, attempts = 0, next_attempt_at = 0, last_error = NULL
WHERE bridge_outgoing.event_id <> excluded.event_id
