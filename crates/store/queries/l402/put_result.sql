INSERT INTO l402_results (
  event_id, result, seal
)
VALUES ($1, $2, $3)
ON CONFLICT (event_id) DO UPDATE SET
  result = excluded.result,
  seal = excluded.seal
