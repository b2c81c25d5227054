//! Fuzzing: libFuzzer over what decodes bytes.
//!
//! The targets are a crate of their own, `fuzz/`, with a target folder of their own: the flags of a sanitizer reach neither the
//! workspace nor RocksDB, which the targets do not need. libFuzzer asks for a nightly compiler because of `-Zsanitizer`; with
//! `RUSTC_BOOTSTRAP` the stable one takes it as well.

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::prerequisites::Permission;
use crate::run::CommandLine;
use crate::say;
use crate::workspace::Workspace;

/// The version of cargo-fuzz that is installed where it is missing.
const CARGO_FUZZ: &str = "0.13.2";

/// What is fuzzed: the names of the programs in `fuzz/fuzz_targets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Target {
    /// Records of events.
    Records,
    /// Keys of the store.
    Keys,
    /// Lines of `es import` and `es export`.
    Lines,
    /// Files of `es import`, their lines into commits.
    Imports,
}

impl Target {
    pub(crate) const ALL: [Self; 4] = [Self::Records, Self::Keys, Self::Lines, Self::Imports];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Keys => "keys",
            Self::Lines => "lines",
            Self::Imports => "imports",
        }
    }

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Records => "fuzzed records",
            Self::Keys => "fuzzed keys",
            Self::Lines => "fuzzed lines",
            Self::Imports => "fuzzed imports",
        }
    }
}

/// cargo-fuzz, ready, with its targets built.
#[derive(Debug)]
pub(crate) struct Fuzzer {
    program: PathBuf,
    folder: PathBuf,
    target: PathBuf,
}

impl Fuzzer {
    /// Installs cargo-fuzz where it is missing, and builds the targets.
    pub(crate) fn prepare(workspace: &Workspace, permission: Permission) -> Result<Self, Failure> {
        let target = workspace.target().join("fuzz");
        let program = cargo_fuzz(&target.join(format!("cargo-fuzz-{CARGO_FUZZ}")), permission)?;
        let fuzzer = Self { program, folder: workspace.root().join("fuzz"), target };
        fuzzer.cargo_fuzz(["build"]).run()?;
        Ok(fuzzer)
    }

    /// Runs a target for so many seconds, on what earlier runs found worth keeping.
    pub(crate) fn run(&self, target: Target, seconds: u32) -> Result<(), Failure> {
        let corpus = self.target.join("corpus").join(target.name());
        CommandLine::at("seeds", self.built("seeds")?).args([target.name().into(), corpus.to_string_lossy()]).run()?;
        self.cargo_fuzz(["run"])
            .args([target.name().into(), corpus.to_string_lossy()])
            .args(["--", "-print_final_stats=1", &format!("-max_total_time={seconds}")])
            .hand_over()
    }

    fn cargo_fuzz<const N: usize>(&self, args: [&str; N]) -> CommandLine {
        CommandLine::at("cargo-fuzz", self.program.clone())
            .args(args)
            .args(["--fuzz-dir".into(), self.folder.to_string_lossy()])
            .args(["--target-dir".into(), self.target.to_string_lossy()])
            .variable("RUSTC_BOOTSTRAP", "1")
            .dir(&self.folder)
    }

    /// A program of the crate, wherever cargo-fuzz has put it: in a folder that is named after the machine.
    fn built(&self, name: &str) -> Result<PathBuf, Failure> {
        let folders =
            std::fs::read_dir(&self.target).map_err(|error| Failure::io("look into", &self.target, &error))?;
        let mut programs = folders.filter_map(|folder| Some(folder.ok()?.path().join("release").join(name)));
        programs.find(|program| program.is_file()).ok_or_else(|| {
            Failure::new(format!("expected the program {name} below {}, found none", self.target.display()))
        })
    }
}

fn cargo_fuzz(root: &Path, permission: Permission) -> Result<PathBuf, Failure> {
    let program = root.join("bin/cargo-fuzz");
    if program.is_file() {
        return Ok(program);
    }
    let version = format!("={CARGO_FUZZ}");
    let install =
        CommandLine::new("cargo").args(["install", "cargo-fuzz", "--version", &version, "--locked", "--root"]);
    let install = install.args([root.to_string_lossy()]);
    if permission == Permission::OnlySay {
        return Err(Failure::new("expected cargo-fuzz, found none").next(format!("run `{}`", install.shown())));
    }
    install.run()?;
    Ok(program)
}

/// Fuzzes these targets, or all of them, one after the other.
pub(crate) fn run(
    workspace: &Workspace,
    permission: Permission,
    seconds: u32,
    targets: &[Target],
) -> Result<(), Failure> {
    say::heading("fuzzing");
    let fuzzer = Fuzzer::prepare(workspace, permission)?;
    let targets = if targets.is_empty() { &Target::ALL[..] } else { targets };
    targets.iter().try_for_each(|target| {
        say::heading(target.name());
        fuzzer.run(*target, seconds)
    })
}
