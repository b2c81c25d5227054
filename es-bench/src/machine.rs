//! The machine of a run. Figures of different machines cannot be compared.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// The machine and the day of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// When the run began, in UTC.
    pub(crate) date: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
    /// GiB.
    pub(crate) memory: u64,
    pub(crate) system: String,
    /// The file system with the stores.
    pub(crate) file_system: String,
}

impl Machine {
    pub(crate) fn detect(dir: &Path) -> Self {
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        let field = |path, name: &str| {
            let found = text(path).lines().find_map(|line| line.strip_prefix(name).map(ToOwned::to_owned));
            found.map_or_else(|| "unknown".into(), |value| value.trim_start_matches([' ', '\t', ':']).trim().to_owned())
        };
        let memory = field("/proc/meminfo", "MemTotal");
        let memory = memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        Self {
            date: chrono::Utc::now().format("%Y-%m-%d %H:%M").to_string(),
            processor: field("/proc/cpuinfo", "model name"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory: (memory + (1 << 19)) >> 20,
            system: text("/proc/version").split(" (").next().unwrap_or_default().replace(" version", "").trim().into(),
            file_system: file_system(&text("/proc/mounts"), dir),
        }
    }

    /// Describes the machine in one line.
    pub(crate) fn line(&self) -> String {
        let Self { date, processor, processors, memory, system, file_system } = self;
        format!("{processor}, {processors} processors, {memory} GiB, {system}, {file_system}; {date} UTC")
    }
}

/// Returns the file system of the mount with the longest path that contains the directory.
fn file_system(mounts: &str, dir: &Path) -> String {
    let mount = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        dir.starts_with(&path).then_some((path.len(), kind))
    };
    mounts.lines().filter_map(mount).max().map_or_else(|| "unknown file system".into(), |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_path_has_the_file_system() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\nproc /proc proc rw 0 0";
        assert_eq!(file_system(mounts, Path::new("/tmp/bench")), "tmpfs");
        assert_eq!(file_system(mounts, Path::new("/var/tmp/bench")), "ext4");
    }
}
