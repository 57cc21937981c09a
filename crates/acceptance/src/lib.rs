//! Proof over real sockets and real stores: `contract/` runs over the table, `routes/` mirrors the URLs,
//! `scenarios/` tells stories across routes. Everything is in one test binary, `tests/it`.
