SELECT owner_key, released, released_jobs, withheld_jobs, seal
FROM compute_totals
WHERE owner_key = $1
