//! Decides how the end of a job is told.

use std::{fmt, io, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Captured, Isolation, Layers};

/// Why a job was not run. Nothing of it was executed.
#[derive(Debug)]
pub enum Refused {
    /// The host lacks what the job demands.
    Isolation {
        missing: Layers,
        why: String,
    },
    /// The job contradicts itself, or names what is not there.
    Spec(String),
    /// The sandbox could not be made.
    Setup(String),
    /// It was cancelled before its first command.
    Cancelled,
    Io(io::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Isolation { missing, why } => {
                write!(out, "this host lacks isolation that the job demands: {missing} ({why})")
            }
            Self::Spec(what) => write!(out, "the job cannot be run as it is: {what}"),
            Self::Setup(what) => write!(out, "the sandbox could not be made: {what}"),
            Self::Cancelled => out.write_str("the job was cancelled before its first command"),
            Self::Io(error) => write!(out, "the sandbox could not be made: {error}"),
        }
    }
}

impl std::error::Error for Refused {}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a job did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// One for each command that was started, in order.
    pub runs: Vec<Run>,
    pub ended: Ended,
    pub artifacts: Vec<Artifact>,
    /// What was asked for as an artifact and is none, with the reason.
    pub left_out: Vec<LeftOut>,
    pub used: Usage,
    /// The layers that really stood around it.
    pub isolation: Isolation,
}

impl Outcome {
    /// Whether every command ran and none failed.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.ended == Ended::Complete && self.runs.iter().all(|run| run.exit == Exit::Code(0))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every command ran.
    Complete,
    /// A command failed, and those after it were not started.
    Stopped,
    Limit(Limit),
    Cancelled,
    /// The sandbox itself broke; what it says about the last command is not to be believed.
    Broken(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    Wall,
    Memory,
    Output,
}

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Wall => "the time was up",
            Self::Memory => "the memory was used up",
            Self::Output => "there was too much output",
        })
    }
}

/// One command that was started.
#[derive(Clone, Debug)]
pub struct Run {
    pub index: usize,
    pub exit: Exit,
    pub wall: Duration,
    pub stdout: Captured,
    pub stderr: Captured,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// It was ended from outside; the job's end says why.
    Ended,
    /// The program could not be started.
    NotStarted(String),
}

impl Exit {
    /// As a shell would say it.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Code(code) => *code,
            Self::Signal(signal) => 128 + signal,
            Self::Ended => 137,
            Self::NotStarted(_) => 127,
        }
    }
}

/// A regular file that the job left where artifacts were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Relative to the working directory.
    pub path: String,
    pub sha256: [u8; 32],
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub path: String,
    pub why: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    pub wall: Duration,
    pub cpu: Duration,
    /// The most at one time; what the control group counted, else the largest that the watchdog saw.
    pub memory_peak_bytes: u64,
    /// What lay in the writable area at the end.
    pub disk_bytes: u64,
}
