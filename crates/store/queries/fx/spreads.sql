SELECT spread_bps, settlements, seal
FROM fx_spreads
ORDER BY spread_bps
