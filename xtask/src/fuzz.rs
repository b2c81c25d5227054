//! Fuzzing of the decoders with libFuzzer.
//!
//! The fuzz targets are a crate outside the workspace, `fuzz/`, with a target directory of its own: the flags of the
//! sanitizer do not affect the workspace, and the targets do not need RocksDB. libFuzzer requires `-Zsanitizer`, which
//! a stable compiler accepts only with `RUSTC_BOOTSTRAP`.

use std::path::{Path, PathBuf};

use crate::command_line::CommandLine;
use crate::console;
use crate::failure::Failure;
use crate::prerequisites::Permission;
use crate::workspace::Workspace;

/// The version of cargo-fuzz to install.
const CARGO_FUZZ: &str = "0.13.2";

/// A fuzz target: a program in `fuzz/fuzz_targets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Target {
    /// Lines of `es import` and `es export`.
    Lines,
    /// Files of `es import`.
    Imports,
    /// Frames of es-log.
    Frames,
    /// Records of es-log.
    LogRecords,
    /// Compressed segments of es-log.
    LogSegments,
    /// Frames of es-replication.
    ReplicationFrames,
    /// Sessions of a replica with a hostile peer.
    ReplicationSessions,
}

impl Target {
    pub(crate) const ALL: [Self; 7] = [
        Self::Lines,
        Self::Imports,
        Self::Frames,
        Self::LogRecords,
        Self::LogSegments,
        Self::ReplicationFrames,
        Self::ReplicationSessions,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Imports => "imports",
            Self::Frames => "frames",
            Self::LogRecords => "log-records",
            Self::LogSegments => "log-segments",
            Self::ReplicationFrames => "replication-frames",
            Self::ReplicationSessions => "replication-sessions",
        }
    }

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Lines => "fuzzed lines",
            Self::Imports => "fuzzed imports",
            Self::Frames => "fuzzed frames",
            Self::LogRecords => "fuzzed log records",
            Self::LogSegments => "fuzzed compressed segments",
            Self::ReplicationFrames => "fuzzed frames of the replication",
            Self::ReplicationSessions => "fuzzed sessions of a replica",
        }
    }
}

/// An installed cargo-fuzz and the fuzz targets, which are built.
#[derive(Debug)]
pub(crate) struct Fuzzer {
    program: PathBuf,
    /// The directory of the crate.
    directory: PathBuf,
    target: PathBuf,
}

impl Fuzzer {
    /// Installs cargo-fuzz if it is missing, and builds the fuzz targets.
    pub(crate) fn prepare(workspace: &Workspace, permission: Permission) -> Result<Self, Failure> {
        let target = workspace.target().join("fuzz");
        let program = cargo_fuzz(&target.join(format!("cargo-fuzz-{CARGO_FUZZ}")), permission)?;
        let fuzzer = Self { program, directory: workspace.root().join("fuzz"), target };
        fuzzer.cargo_fuzz(["build"]).run()?;
        Ok(fuzzer)
    }

    /// Runs a fuzz target for this number of seconds, starting with the corpus of earlier runs.
    pub(crate) fn run(&self, target: Target, seconds: u32) -> Result<(), Failure> {
        let corpus = self.target.join("corpus").join(target.name());
        CommandLine::at("seeds", self.built("seeds")?).args([target.name().into(), corpus.to_string_lossy()]).run()?;
        self.cargo_fuzz(["run"])
            .args([target.name().into(), corpus.to_string_lossy()])
            .args(["--", "-print_final_stats=1", &format!("-max_total_time={seconds}")])
            .run_self_reporting()
    }

    fn cargo_fuzz<const N: usize>(&self, args: [&str; N]) -> CommandLine {
        CommandLine::at("cargo-fuzz", self.program.clone())
            .args(args)
            .args(["--fuzz-dir".into(), self.directory.to_string_lossy()])
            .args(["--target-dir".into(), self.target.to_string_lossy()])
            .variable("RUSTC_BOOTSTRAP", "1")
            .directory(&self.directory)
    }

    /// Finds a program of the crate. cargo-fuzz builds into a directory that is named after the platform.
    fn built(&self, name: &str) -> Result<PathBuf, Failure> {
        let directories = std::fs::read_dir(&self.target).map_err(|error| Failure::io("read", &self.target, &error))?;
        let mut programs = directories.filter_map(|directory| Some(directory.ok()?.path().join("release").join(name)));
        programs
            .find(|program| program.is_file())
            .ok_or_else(|| Failure::new(format!("cannot find the program {name} in {}", self.target.display())))
    }
}

/// Returns the program cargo-fuzz, which is installed into `root` if it is missing.
fn cargo_fuzz(root: &Path, permission: Permission) -> Result<PathBuf, Failure> {
    let program = root.join("bin/cargo-fuzz");
    if program.is_file() {
        return Ok(program);
    }
    let version = format!("={CARGO_FUZZ}");
    let install =
        CommandLine::new("cargo").args(["install", "cargo-fuzz", "--version", &version, "--locked", "--root"]);
    let install = install.args([root.to_string_lossy()]);
    if permission == Permission::PrintOnly {
        return Err(Failure::new("cargo-fuzz is not installed").next(format!("run `{}`", install.shown())));
    }
    install.run()?;
    Ok(program)
}

/// Runs these fuzz targets in order, or all of them if none is given.
pub(crate) fn run(
    workspace: &Workspace,
    permission: Permission,
    seconds: u32,
    targets: &[Target],
) -> Result<(), Failure> {
    console::heading("fuzzing");
    let fuzzer = Fuzzer::prepare(workspace, permission)?;
    let targets = if targets.is_empty() { &Target::ALL[..] } else { targets };
    targets.iter().try_for_each(|target| {
        console::heading(target.name());
        fuzzer.run(*target, seconds)
    })
}
