//! Decides what passes between the program that runs a job and the first process of its sandbox.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Command, Layer, Layers, Limits, Network};

/// Everything that the sandbox is made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) commands: Vec<Command>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) work_from: Option<PathBuf>,
    pub(crate) work_at: PathBuf,
    /// Host path and where it is seen.
    pub(crate) visible: Vec<(PathBuf, PathBuf)>,
    pub(crate) limits: Limits,
    pub(crate) network: Network,
    pub(crate) minimum: Layers,
    /// The job's control groups, one for each hierarchy.
    pub(crate) cgroup_dirs: Vec<PathBuf>,
    /// Control groups that stand.
    pub(crate) cgroups: Layers,
}

/// What the sandbox says of itself. Some carry file descriptors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// It stands. With it comes the working directory.
    Ready {
        layers: Layers,
        missing: BTreeMap<Layer, String>,
        landlock_abi: u32,
    },
    /// It could not be made.
    Failed {
        what: String,
        missing: Option<Layer>,
    },
    /// With it come the reading ends of the command's output and error output.
    Started {
        index: usize,
    },
    Ended {
        index: usize,
        exit: EndedBy,
        wall: Duration,
    },
    /// The watchdog found more memory than allowed; everything is being ended.
    OutOfMemory,
    /// Every process of the job has been reaped.
    Gone,
    Done {
        stopped: bool,
        cpu: Duration,
        memory_peak_bytes: u64,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum EndedBy {
    Code(i32),
    Signal(i32),
    NotStarted(String),
}
