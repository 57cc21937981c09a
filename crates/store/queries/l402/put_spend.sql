INSERT INTO l402_spends (
  principal, autopilot, day, reserved_msats, paid_msats, seal
)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (principal, autopilot, day) DO UPDATE SET
  reserved_msats = excluded.reserved_msats,
  paid_msats = excluded.paid_msats,
  seal = excluded.seal
