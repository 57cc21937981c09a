INSERT INTO thread_turns (thread_id, turn_id, worker_id, request_id, status, model, started_at, ended_at, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (thread_id, turn_id) DO UPDATE SET worker_id = excluded.worker_id, request_id = excluded.request_id,
  status = excluded.status, model = excluded.model, started_at = excluded.started_at,
  ended_at = excluded.ended_at, seal = excluded.seal
