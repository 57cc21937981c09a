//! Decides which chores of this repository are commands: `cargo xtask <chore>`.

mod bench;
mod ci;
mod picture;
mod schemathesis;
mod sync;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Chores of this repository")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Everything that must hold before a change lands: format, lints, derived files, and every test on both
    /// engines. Installs what is missing, and closes with a line of counts.
    Ci(ci::Ci),
    /// Write everything that is derived from the table: docs/routes.md, docs/refusals.md, openapi/*.json.
    Sync {
        /// Change nothing; fail when a file is not what the table says.
        #[arg(long)]
        check: bool,
    },
    /// Ask every operation of both OpenAPI documents what a stranger may ask, and hold the answers against them.
    /// Needs python3 and, the first time, PyPI.
    Schemathesis(schemathesis::Schemathesis),
    /// Measure, and print what was measured. A report, never a test.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Run the demonstration and draw what it says: docs/demo.svg.
    Picture(picture::Picture),
    /// The parse-only server that `bench append` measures `oa` against.
    #[command(hide = true)]
    BenchParseServer { bind: std::net::SocketAddr },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().chore {
        Chore::Ci(ci) => ci.run(),
        Chore::Sync { check } => sync::run(check),
        Chore::Schemathesis(schemathesis) => schemathesis.run(),
        Chore::Bench(bench) => bench::run(bench),
        Chore::Picture(picture) => picture.run(),
        Chore::BenchParseServer { bind } => bench::parse_server(bind),
    }
}

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}
