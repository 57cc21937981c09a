//! The smallest launcher: what a program does that runs jobs and nothing else.

fn main() -> std::process::ExitCode {
    oa_sandbox::init::main()
}
