//! Decides what isolation is made of, so that a host can say what it has and a job what it demands.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// One layer of isolation. Each is either there whole or not claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    UserNamespace,
    PidNamespace,
    MountNamespace,
    NetNamespace,
    IpcNamespace,
    UtsNamespace,
    /// A root that holds only what the job is shown, read-only.
    ReadOnlyRoot,
    NoNewPrivileges,
    NoCapabilities,
    Seccomp,
    Landlock,
    /// A control group counts all memory. Without it a watchdog counts what processes hold, twenty times a second,
    /// and memory that belongs to no process is refused.
    CgroupMemory,
    /// A control group counts processes. Without it a resource limit of the job's own user namespace does.
    CgroupPids,
    /// A control group divides processor time. Without it a job is bound to as many processors as it may use.
    CgroupCpu,
}

impl Layer {
    pub const ALL: [Self; 14] = [
        Self::UserNamespace,
        Self::PidNamespace,
        Self::MountNamespace,
        Self::NetNamespace,
        Self::IpcNamespace,
        Self::UtsNamespace,
        Self::ReadOnlyRoot,
        Self::NoNewPrivileges,
        Self::NoCapabilities,
        Self::Seccomp,
        Self::Landlock,
        Self::CgroupMemory,
        Self::CgroupPids,
        Self::CgroupCpu,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UserNamespace => "user_namespace",
            Self::PidNamespace => "pid_namespace",
            Self::MountNamespace => "mount_namespace",
            Self::NetNamespace => "net_namespace",
            Self::IpcNamespace => "ipc_namespace",
            Self::UtsNamespace => "uts_namespace",
            Self::ReadOnlyRoot => "read_only_root",
            Self::NoNewPrivileges => "no_new_privileges",
            Self::NoCapabilities => "no_capabilities",
            Self::Seccomp => "seccomp",
            Self::Landlock => "landlock",
            Self::CgroupMemory => "cgroup_memory",
            Self::CgroupPids => "cgroup_pids",
            Self::CgroupCpu => "cgroup_cpu",
        }
    }

    /// Without one of these nothing is run at all.
    #[must_use]
    pub fn is_core(self) -> bool {
        !matches!(self, Self::Landlock | Self::CgroupMemory | Self::CgroupPids | Self::CgroupCpu)
    }
}

/// A set of layers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Layers(std::collections::BTreeSet<Layer>);

impl Layers {
    /// Every layer that cannot be done without.
    #[must_use]
    pub fn core() -> Self {
        Layer::ALL.into_iter().filter(|layer| layer.is_core()).collect()
    }

    /// The core and Landlock: all that an ordinary user of a recent kernel has.
    #[must_use]
    pub fn standard() -> Self {
        Self::core().with(Layer::Landlock)
    }

    #[must_use]
    pub fn all() -> Self {
        Layer::ALL.into_iter().collect()
    }

    #[must_use]
    pub fn with(mut self, layer: Layer) -> Self {
        self.0.insert(layer);
        self
    }

    #[must_use]
    pub fn has(&self, layer: Layer) -> bool {
        self.0.contains(&layer)
    }

    pub fn iter(&self) -> impl Iterator<Item = Layer> + '_ {
        self.0.iter().copied()
    }

    /// What of these `other` lacks.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Self {
        self.iter().filter(|layer| !other.has(*layer)).collect()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Layer> for Layers {
    fn from_iter<T: IntoIterator<Item = Layer>>(layers: T) -> Self {
        Self(layers.into_iter().collect())
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Layer::name).collect();
        out.write_str(&names.join(", "))
    }
}

/// What this host really offers, found by doing it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    pub layers: Layers,
    /// Why a layer is missing, in the words of whoever refused it.
    pub missing: BTreeMap<Layer, String>,
    /// The version of Landlock; 0 where there is none.
    pub landlock_abi: u32,
}

impl Isolation {
    #[must_use]
    pub fn has(&self, layer: Layer) -> bool {
        self.layers.has(layer)
    }
}
