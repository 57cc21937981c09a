//! Stories across routes.

mod books_that_do_not_add_up;
mod damaged_store;
mod liquidity_pool;
mod nostr;
mod paid_job;
mod parties_that_cheat;
mod treasury_router;
