//! What the machine offers, for defaults that depend on it.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

/// What the machine offers this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Cores that it may use.
    pub cores: u64,
    /// Memory that it may use, in bytes.
    pub memory_bytes: u64,
}

/// Assumed where the system does not tell.
const MEMORY_BYTES_ASSUMED: u64 = 2 << 30;

impl Machine {
    /// Asks the operating system, and the control group where there is one. Takes 2 GiB where memory is not told.
    pub fn this() -> Self {
        let installed = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_total(&text));
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let limits = limit_files(&groups).into_iter();
        let granted =
            limits.filter_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()).min();
        Self {
            cores: thread::available_parallelism().map_or(1, |cores| NonZero::get(cores) as u64),
            memory_bytes: installed.into_iter().chain(granted).min().unwrap_or(MEMORY_BYTES_ASSUMED),
        }
    }
}

/// Where limits of memory stand: in the control group of this process (`MemoryMax` of a systemd unit) and in all groups
/// around it. A container sees its own group as the root.
fn limit_files(proc_self_cgroup: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in proc_self_cgroup.lines() {
        // number:controllers:path; version 2 has the number 0 and no controllers.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(path.trim_start_matches('/'));
        files.extend(group.ancestors().map(|group| Path::new(root).join(group).join(file)));
    }
    if files.is_empty() {
        files.push("/sys/fs/cgroup/memory.max".into());
        files.push("/sys/fs/cgroup/memory/memory.limit_in_bytes".into());
    }
    files
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_what_linux_says() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(mem_total(text), expect, "{text}");
        check("MemTotal:       24684092 kB\nMemFree:  1 kB\n", Some(24_684_092 * 1024));
        check("MemFree: 1 kB\nMemTotal: 8 kB", Some(8192));
        check("MemTotal: lots", None);
        check("", None);
    }

    #[test]
    fn the_limits_of_all_groups_count() {
        let check = |groups: &str, expect: &[&str]| {
            assert_eq!(limit_files(groups), expect.iter().map(PathBuf::from).collect::<Vec<_>>(), "{groups}");
        };
        check(
            "0::/system.slice/leveret.service\n",
            &[
                "/sys/fs/cgroup/system.slice/leveret.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ],
        );
        check("0::/\n", &["/sys/fs/cgroup/memory.max"]);
        check(
            "5:cpu,cpuacct:/a\n4:memory:/b\n",
            &["/sys/fs/cgroup/memory/b/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"],
        );
        check("", &["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]);
    }

    #[test]
    fn this_machine_has_something_to_offer() {
        let machine = Machine::this();
        assert!(machine.cores >= 1 && machine.memory_bytes >= 1 << 20, "{machine:?}");
    }
}
