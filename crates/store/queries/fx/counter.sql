SELECT stripe, rfqs, quotes, settlements, withheld, providers, seal
FROM fx_counters
WHERE stripe = $1
