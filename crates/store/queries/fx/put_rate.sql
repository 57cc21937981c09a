INSERT INTO fx_rates (sell_asset, buy_asset, source, sell_unit, sell_units, buy_unit, buy_units, observed_at_unix, seal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (sell_asset, buy_asset, source) DO UPDATE SET sell_unit = excluded.sell_unit, sell_units = excluded.sell_units, buy_unit =
  excluded.buy_unit, buy_units = excluded.buy_units, observed_at_unix = excluded.observed_at_unix, seal = excluded.seal
