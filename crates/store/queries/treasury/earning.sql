SELECT owner_key, provider_id, earned, released_jobs, withheld_jobs, seal
FROM compute_earnings
WHERE owner_key = $1 AND provider_id = $2
