SELECT sell_asset, buy_asset, source, sell_unit, sell_units, buy_unit, buy_units, observed_at_unix, seal
FROM fx_rates
WHERE sell_asset = $1 AND buy_asset = $2
ORDER BY source
LIMIT $3
