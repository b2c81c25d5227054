//! The limit of the disk: one thread writes waiting commits to a file and calls `fdatasync` once.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::contender::{Append, Contender, Durability, Opened, Role, Setup, Shape, Task};
use crate::failure::Failure;
use crate::gather::{Engine, Gather};

pub(crate) const BARE_FILE: &str = "bare-file";

pub(crate) struct BareFile;

#[async_trait]
impl Contender for BareFile {
    fn name(&self) -> &'static str {
        BARE_FILE
    }

    fn about(&self) -> String {
        "one thread writes waiting commits to a file, as many bytes as es-rocksdb, and calls fdatasync once".into()
    }

    fn role(&self) -> Role {
        Role::Limit
    }

    fn offers(&self, task: Task) -> Result<(), &'static str> {
        match task {
            Task::Append | Task::AppendBuffered | Task::Volume => Ok(()),
            _ => Err("a file of bytes"),
        }
    }

    async fn open(&self, dir: &Path, setup: Setup) -> Result<Box<dyn Opened>, Failure> {
        let file = create(dir)?;
        let engine = FileEngine { file, shape: setup.shape, syncs: setup.durability == Durability::Synced };
        Ok(Box::new(OpenedFile(Gather::start(engine, false)?)))
    }
}

fn create(dir: &Path) -> Result<File, Failure> {
    std::fs::create_dir_all(dir).map_err(|error| Failure::caused_by("create a directory", &error))?;
    File::create(dir.join("log")).map_err(|error| Failure::caused_by("create a file", &error))
}

struct FileEngine {
    file: File,
    shape: Shape,
    syncs: bool,
}

impl Engine for FileEngine {
    fn write(&mut self, commits: &[Append], _: u64) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        for commit in commits {
            bytes.resize(bytes.len() + self.shape.commit, b'x');
            for event in &commit.events {
                bytes.extend_from_slice(&event.payload);
                bytes.resize(bytes.len() + self.shape.event.saturating_sub(event.payload.len()), b'x');
            }
        }
        self.file.write_all(&bytes).map_err(|error| Failure::caused_by("write", &error))?;
        if self.syncs {
            self.file.sync_data().map_err(|error| Failure::caused_by("sync", &error))?;
        }
        Ok(())
    }
}

struct OpenedFile(Gather);

#[async_trait]
impl Opened for OpenedFile {
    fn blocks(&self) -> bool {
        true
    }

    async fn append(&self, append: Append) -> Result<u64, Failure> {
        self.0.append(append).await
    }
}

/// Measures single syncs at a constant rate: a small append to a file, and `fdatasync`.
pub(crate) fn syncs(dir: &Path, rate: f64, duration: Duration, bytes: usize) -> Result<Vec<Duration>, Failure> {
    let mut file = create(dir)?;
    let started = Instant::now();
    let pause = Duration::from_secs_f64(1.0 / rate.max(1.0));
    let content = vec![b'x'; bytes];
    let mut durations = Vec::new();
    while started.elapsed() < duration {
        let start = Instant::now();
        file.write_all(&content).and_then(|()| file.sync_data()).map_err(|error| Failure::caused_by("sync", &error))?;
        durations.push(start.elapsed());
        std::thread::sleep(pause.saturating_sub(start.elapsed()));
    }
    Ok(durations)
}
