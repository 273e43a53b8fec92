//! What the broker takes of its machine: memory, descriptors, and the room where its data is. Looked at when figures are asked for.

use std::fmt;
use std::path::PathBuf;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rustix::process::{Resource, getrlimit};

/// The broker's own process, and its data directory.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) data: PathBuf,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, what: &str, unit: Option<&Unit>, value: Option<u64>| {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value as i64);
            let metric = encoder.encode_descriptor(name, what, unit, gauge.metric_type())?;
            gauge.encode(metric)
        };
        let bytes = Some(&Unit::Bytes);
        // The names that Prometheus' own libraries give to a process.
        gauge(
            "process_resident_memory",
            "Memory of the broker that is not swapped",
            bytes,
            resident(),
        )?;
        gauge("process_open_fds", "Open descriptors of the broker", None, descriptors())?;
        let most = getrlimit(Resource::Nofile).current;
        gauge("process_max_fds", "The most descriptors the broker may have", None, most)?;
        let room = rustix::fs::statvfs(&self.data).ok();
        let size = room.as_ref().map(|room| room.f_blocks.saturating_mul(room.f_frsize));
        let free = room.as_ref().map(|room| room.f_bavail.saturating_mul(room.f_frsize));
        let what = "Size of the file system with the data directory";
        gauge("sundown_data_filesystem_size", what, bytes, size)?;
        let what = "Room for the broker in the file system with the data directory";
        gauge("sundown_data_filesystem_free", what, bytes, free)
    }
}

/// The memory of this process in bytes, where the kernel says.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// How many descriptors this process has, where the kernel says.
fn descriptors() -> Option<u64> {
    // The one by which they are listed is not counted.
    let listed = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(listed.saturating_sub(1))
}
