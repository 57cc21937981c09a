SELECT
  (SELECT COUNT(*) FROM outbox),
  (SELECT COUNT(*) FROM outbox WHERE leased_until > $1),
  (SELECT COUNT(*) FROM outbox_dead),
  (SELECT MIN(created_at) FROM outbox)
