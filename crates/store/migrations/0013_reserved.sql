-- Kept for another lane.
CREATE TABLE reserved_0013 (id BIGINT NOT NULL PRIMARY KEY);
