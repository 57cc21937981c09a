//! Decides whether the processes of a job hold more memory than they may, where no control group counts it.

use std::fs;

/// What every process but this one holds. A process counts what is its own or shared by mapping; files that it
/// merely reads do not count, the kernel can drop them.
pub(super) fn held() -> u64 {
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let mut total = 0_u64;
    for entry in processes.flatten() {
        let name = entry.file_name();
        let Some(number) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        if number == "1" {
            continue;
        }
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
        total = total.saturating_add(of_status(&status));
    }
    total
}

fn of_status(status: &str) -> u64 {
    let member = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let kib = ["RssAnon:", "RssShmem:", "VmSwap:", "VmPTE:"].into_iter().filter_map(member).sum::<u64>();
    kib.saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_its_own_counts_and_what_it_only_reads_does_not() {
        let status = "Name:\tx\nVmPTE:\t      4 kB\nRssAnon:\t     100 kB\nRssFile:\t 9999 kB\nRssShmem:\t 10 kB\nVmSwap:\t 1 kB\n";
        assert_eq!(of_status(status), 115 * 1024);
    }
}
