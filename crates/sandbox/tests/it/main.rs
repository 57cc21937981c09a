//! What the sandbox holds, tried from inside by a program for which all of it works outside.

mod bounds;
mod host;
mod kept;
mod left_behind;
mod probes;
