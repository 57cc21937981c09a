//! Stories across routes.

mod damaged_store;
