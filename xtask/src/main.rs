//! Decides which chores of this repository are commands: `cargo xtask <chore>`.

mod bench;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Chores of this repository")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Measure, and print what was measured. A report, never a test.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// The parse-only server that `bench append` measures `oa` against.
    #[command(hide = true)]
    BenchParseServer { bind: std::net::SocketAddr },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().chore {
        Chore::Bench(bench) => bench::run(bench),
        Chore::BenchParseServer { bind } => bench::parse_server(bind),
    }
}
