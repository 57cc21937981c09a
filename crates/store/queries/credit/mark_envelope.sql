UPDATE credit_envelopes SET borrower = $2
WHERE envelope_id = $1
