INSERT INTO store_probe (id, beats) VALUES (1, 1)
ON CONFLICT (id) DO UPDATE SET beats = store_probe.beats + 1
RETURNING beats
