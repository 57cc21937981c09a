//! Decides how strangers' questions are put to both services: Schemathesis, at one version and with one seed, asks every
//! operation of both OpenAPI documents in all of its phases, and holds the answers against the documents.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use clap::Args;

const VERSION: &str = "4.32.5";

#[derive(Args)]
pub struct Schemathesis {
    /// Few cases for each operation.
    #[arg(long)]
    quick: bool,
    /// Cases for each operation and phase.
    #[arg(long, default_value_t = 100)]
    cases: u32,
    #[arg(long, default_value_t = 20_261_123)]
    seed: u32,
    /// Only one of them: runtime or control.
    #[arg(long)]
    service: Option<String>,
    /// Only this operation, as `runs.append`; may be given several times.
    #[arg(long)]
    include: Vec<String>,
    /// Only these of examples, coverage, fuzzing and stateful, separated by commas.
    #[arg(long)]
    phases: Option<String>,
    /// What the environment is made with. 3.12 or newer: deep shapes are too deep for the parser of older ones.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// The program that is asked; built when it is not given.
    #[arg(long)]
    oa_binary: Option<PathBuf>,
}

impl Schemathesis {
    pub fn run(&self) -> anyhow::Result<()> {
        let root = crate::root();
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let place = std::path::absolute(target.join("schemathesis"))?;
        fs::create_dir_all(&place)?;
        let program = match &self.oa_binary {
            Some(given) => given.canonicalize().with_context(|| given.display().to_string())?,
            None => {
                let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
                finish(Command::new(cargo).args(["build", "--package", "oa"]).current_dir(&root))?;
                target.join("debug/oa")
            }
        };
        let python = environment(&place, &self.python)?;
        let mut drive = Command::new(python);
        drive.arg(root.join("xtask/schemathesis/drive.py")).arg("--oa").arg(program);
        drive.arg("--place").arg(&place).args(["--cases", &self.cases.to_string()]);
        drive.args(["--seed", &self.seed.to_string()]);
        if self.quick {
            drive.arg("--quick");
        }
        for (flag, value) in [("--service", &self.service), ("--phases", &self.phases)] {
            if let Some(value) = value {
                drive.args([flag, value]);
            }
        }
        for name in &self.include {
            drive.args(["--include", name]);
        }
        finish(&mut drive)
    }
}

/// An environment of its own with that version in it, made once.
fn environment(place: &Path, python: &Path) -> anyhow::Result<PathBuf> {
    let environment = place.join("venv");
    let own = environment.join("bin/python");
    let made = environment.join(format!("schemathesis-{VERSION}"));
    if !made.exists() {
        finish(Command::new(python).args(["-m", "venv", "--clear"]).arg(&environment))?;
        let wanted = format!("schemathesis=={VERSION}");
        finish(Command::new(&own).args(["-m", "pip", "install", "--quiet", &wanted]))?;
        fs::write(made, "")?;
    }
    Ok(own)
}

fn finish(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
