-- Credit: what agents may spend, and what became of it.
CREATE TABLE credit_placeholder (id BIGINT NOT NULL PRIMARY KEY);
