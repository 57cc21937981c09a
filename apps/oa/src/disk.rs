//! Decides what `/metrics` says of the disk: how much room the data directory has, and how large its stores are.

use std::{fs, path::Path};

use metrics::gauge;

/// The embedded stores of the services; that of a wallet belongs to its own process.
const STORES: [&str; 2] = ["runtime", "control"];

/// Sets the gauges from what the file system says now. Nothing is opened.
pub fn show(data: &Path) {
    if let Ok(room) = nix::sys::statvfs::statvfs(data) {
        let bytes = |blocks: u64| blocks.saturating_mul(room.fragment_size()) as f64;
        gauge!("oa_disk_size_bytes").set(bytes(room.blocks()));
        // What is reserved for root is no room.
        gauge!("oa_disk_free_bytes").set(bytes(room.blocks_available()));
    }
    for store in STORES {
        let length =
            |suffix: &str| fs::metadata(data.join(format!("{store}.db{suffix}"))).map(|file| file.len());
        if let Ok(length) = length("") {
            gauge!("oa_store_file_bytes", "store" => store).set(length as f64);
        }
        if let Ok(length) = length("-wal") {
            gauge!("oa_store_log_bytes", "store" => store).set(length as f64);
        }
    }
}
