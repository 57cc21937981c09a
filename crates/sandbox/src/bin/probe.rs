//! Makes one attempt at something that a job must not be able to do, and says whether it worked.

fn main() {}
