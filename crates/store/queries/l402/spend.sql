SELECT
  principal, autopilot, day, reserved_msats, paid_msats, seal
FROM l402_spends
WHERE principal = $1 AND autopilot = $2 AND day = $3
