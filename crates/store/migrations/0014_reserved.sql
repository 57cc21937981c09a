-- Kept for another lane.
CREATE TABLE reserved_0014 (id BIGINT NOT NULL PRIMARY KEY);
