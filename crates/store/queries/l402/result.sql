SELECT
  event_id, result, seal
FROM l402_results
WHERE event_id = $1
