SELECT spread_bps, settlements, seal
FROM fx_spreads
WHERE spread_bps = $1
