//! Decides which control groups a job gets: a child of the groups that this program is in, where it may make one.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{Layer, Layers, Limits};

/// What the launcher and the sandbox's first process need beside the job itself.
const OWN_PROCESSES: u64 = 2;
const OWN_MEMORY: u64 = 8 << 20;
const PERIOD_US: f64 = 100_000.0;
const PREFIX: &str = "oa-job-";

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The groups of one job. Dropping them removes them.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Vec<Group>,
    layers: Layers,
    missing: BTreeMap<Layer, String>,
}

#[derive(Debug)]
struct Group {
    dir: PathBuf,
    unified: bool,
}

/// A mounted hierarchy, and where in it this program is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    /// Empty for the unified one.
    controllers: Vec<String>,
    here: PathBuf,
    unified: bool,
}

const LAYERS: [(Layer, &str); 3] =
    [(Layer::CgroupMemory, "memory"), (Layer::CgroupPids, "pids"), (Layer::CgroupCpu, "cpu")];

impl Groups {
    pub(crate) fn none() -> Self {
        let missing = LAYERS.map(|(layer, _)| (layer, "control groups are not used".to_owned())).into();
        Self { groups: Vec::new(), layers: Layers::default(), missing }
    }

    pub(crate) fn make(limits: &Limits) -> Self {
        let hierarchies = hierarchies(
            &fs::read_to_string("/proc/self/cgroup").unwrap_or_default(),
            &fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
        );
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut made = Self::default();
        for hierarchy in &hierarchies {
            let wanted: Vec<_> = LAYERS
                .into_iter()
                .filter(|(layer, controller)| {
                    !made.layers.has(*layer)
                        && (hierarchy.unified || hierarchy.controllers.iter().any(|one| one == controller))
                })
                .collect();
            if !wanted.is_empty() {
                made.make_in(hierarchy, &name, &wanted, limits);
            }
        }
        for (layer, controller) in LAYERS {
            if !made.layers.has(layer) {
                made.missing
                    .entry(layer)
                    .or_insert_with(|| format!("no control group counts {controller} here"));
            }
        }
        made
    }

    fn make_in(&mut self, hierarchy: &Hierarchy, name: &str, wanted: &[(Layer, &str)], limits: &Limits) {
        for parent in hierarchy.parents(wanted) {
            sweep(&parent);
            let dir = parent.join(name);
            if let Err(error) = fs::create_dir(&dir) {
                for (layer, _) in wanted {
                    self.missing.insert(*layer, format!("{}: {error}", dir.display()));
                }
                continue;
            }
            let group = Group { dir, unified: hierarchy.unified };
            let mut stands = Layers::default();
            for (layer, controller) in wanted {
                match group.limit(controller, limits) {
                    Ok(()) => {
                        self.missing.remove(layer);
                        stands = stands.with(*layer);
                    }
                    Err(error) => {
                        self.missing
                            .insert(*layer, format!("{} ({controller}): {error}", group.dir.display()));
                    }
                }
            }
            if stands.is_empty() {
                let _ = fs::remove_dir(&group.dir);
                continue;
            }
            self.layers = self.layers.iter().chain(stands.iter()).collect();
            self.groups.push(group);
            return;
        }
    }

    pub(crate) fn layers(&self) -> &Layers {
        &self.layers
    }

    pub(crate) fn missing(&self) -> impl Iterator<Item = (Layer, String)> {
        self.missing.iter().map(|(layer, why)| (*layer, why.clone()))
    }

    pub(crate) fn why(&self) -> String {
        self.missing.values().next().cloned().unwrap_or_default()
    }

    pub(crate) fn dirs(&self) -> Vec<PathBuf> {
        self.groups.iter().map(|group| group.dir.clone()).collect()
    }

    /// Whether the kernel ended something of the job for want of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        self.groups.iter().any(|group| {
            let file = if group.unified { "memory.events" } else { "memory.oom_control" };
            group.member(file, "oom_kill").is_some_and(|count| count > 0)
        })
    }

    pub(crate) fn memory_peak(&self) -> Option<u64> {
        self.groups.iter().find_map(|group| {
            group.number(if group.unified { "memory.peak" } else { "memory.max_usage_in_bytes" })
        })
    }

    pub(crate) fn cpu(&self) -> Option<Duration> {
        self.groups.iter().find_map(|group| {
            group.unified.then(|| group.member("cpu.stat", "usage_usec").map(Duration::from_micros)).flatten()
        })
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for group in &self.groups {
            // The launcher removes them as well, in case this program does not live to do so.
            let _ = fs::remove_dir(&group.dir);
        }
    }
}

impl Group {
    fn limit(&self, controller: &str, limits: &Limits) -> io::Result<()> {
        // What is written in the private file systems lies in memory too, and is counted there.
        let memory = limits.memory_bytes.saturating_add(limits.disk_bytes).saturating_add(OWN_MEMORY);
        let quota = (limits.cpus * PERIOD_US).max(1_000.0).round();
        match (controller, self.unified) {
            ("memory", true) => {
                self.write("memory.max", &memory.to_string())?;
                // Absent where the kernel counts no swap: then there is none to use.
                let _ = self.write("memory.swap.max", "0");
                Ok(())
            }
            ("memory", false) => {
                self.write("memory.limit_in_bytes", &memory.to_string())?;
                let _ = self.write("memory.memsw.limit_in_bytes", &memory.to_string());
                Ok(())
            }
            ("pids", _) => {
                self.write("pids.max", &limits.processes.saturating_add(OWN_PROCESSES).to_string())
            }
            // Beside the host's own work a job counts as many processes as it has processors, not as one: several
            // that share a group would otherwise get the time of one.
            ("cpu", true) => {
                let _ =
                    self.write("cpu.weight", &(100.0 * limits.cpus).clamp(1.0, 10_000.0).round().to_string());
                self.write("cpu.max", &format!("{quota} {PERIOD_US}"))
            }
            ("cpu", false) => {
                let _ = self
                    .write("cpu.shares", &(1024.0 * limits.cpus).clamp(2.0, 262_144.0).round().to_string());
                self.write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
                self.write("cpu.cfs_quota_us", &quota.to_string())
            }
            _ => Err(io::Error::from(io::ErrorKind::Unsupported)),
        }
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        // Never made: a directory that is no control group must not pass for one.
        let mut file = fs::OpenOptions::new().write(true).open(self.dir.join(file))?;
        io::Write::write_all(&mut file, text.as_bytes())
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.dir.join(file)).ok()?.trim().parse().ok()
    }

    fn member(&self, file: &str, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.dir.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

impl Hierarchy {
    /// Where a child may be made: here, or beside us, if the controllers are given to children there.
    fn parents(&self, wanted: &[(Layer, &str)]) -> Vec<PathBuf> {
        if !self.unified {
            return vec![self.here.clone()];
        }
        let mut places = vec![self.here.clone()];
        places.extend(
            self.here.parent().filter(|parent| parent.join("cgroup.procs").exists()).map(Path::to_owned),
        );
        places.retain(|place| {
            let given = |file: &str| fs::read_to_string(place.join(file)).unwrap_or_default();
            for (_, controller) in wanted {
                let has = |text: &str| text.split_whitespace().any(|one| one == *controller);
                if !has(&given("cgroup.subtree_control")) && has(&given("cgroup.controllers")) {
                    let _ = fs::write(place.join("cgroup.subtree_control"), format!("+{controller}"));
                }
            }
            let children = given("cgroup.subtree_control");
            wanted.iter().any(|(_, controller)| children.split_whitespace().any(|one| one == *controller))
        });
        places
    }
}

/// Removes the groups of programs that ended without doing so. One that is still in use stays by itself.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()) else {
            continue;
        };
        if owner.parse::<u32>().is_ok() && !Path::new("/proc").join(owner).exists() {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// From `/proc/self/cgroup` and `/proc/self/mountinfo`: the unified hierarchy first.
fn hierarchies(cgroup: &str, mountinfo: &str) -> Vec<Hierarchy> {
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let Some((front, back)) = line.split_once(" - ") else { continue };
        let front: Vec<_> = front.split(' ').collect();
        let back: Vec<_> = back.split(' ').collect();
        let (Some(root), Some(mounted), Some(kind)) = (front.get(3), front.get(4), back.first()) else {
            continue;
        };
        let unified = match *kind {
            "cgroup2" => true,
            "cgroup" => false,
            _ => continue,
        };
        let options: Vec<&str> = back.get(2).map(|options| options.split(',').collect()).unwrap_or_default();
        for line in cgroup.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(id), Some(names), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let fits = match unified {
                true => id == "0" && names.is_empty(),
                false => !names.is_empty() && names.split(',').all(|name| options.contains(&name)),
            };
            // Where only a part of the hierarchy is mounted, the path is seen from that part.
            let inside = if *root == "/" { Some(path) } else { path.strip_prefix(root) };
            if let (true, Some(inside)) = (fits, inside) {
                found.push(Hierarchy {
                    controllers: names
                        .split(',')
                        .filter(|name| !name.is_empty())
                        .map(str::to_owned)
                        .collect(),
                    here: Path::new(mounted).join(inside.trim_start_matches('/')),
                    unified,
                });
            }
        }
    }
    found.sort_by_key(|hierarchy| !hierarchy.unified);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_place_is_found_in_old_new_and_partly_mounted_hierarchies() {
        let cgroup = "4:memory:/session/7\n1:cpu,cpuacct:/\n0::/user/app\n";
        let mountinfo = "\
            26 25 0:22 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            27 25 0:23 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
            28 25 0:24 /user /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            29 25 8:1 / / rw - ext4 /dev/vda rw\n";
        let found = hierarchies(cgroup, mountinfo);
        let places: Vec<_> =
            found.iter().map(|one| (one.unified, one.here.to_str().unwrap_or_default())).collect();
        assert_eq!(
            places,
            [
                (true, "/sys/fs/cgroup/unified/app"),
                (false, "/sys/fs/cgroup/memory/session/7"),
                (false, "/sys/fs/cgroup/cpu/")
            ]
        );
    }
}
