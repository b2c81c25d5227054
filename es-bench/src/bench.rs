//! The state that workloads share: the amounts of a run ([`Plan`]), its contenders, directories and report ([`Bench`]).

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use crate::cli::Arguments;
use crate::contender::{Contender, Durability, Opened, Role, Setup, Shape, Task};
use crate::failure::Failure;
use crate::machine::Machine;
use crate::report::{About, Report};

/// The amounts of a run: the arguments, with the defaults of the full or the short form.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) quick: bool,
    /// Whether no argument changes the amounts of the form.
    pub(crate) has_default_amounts: bool,
    pub(crate) writers: Vec<u32>,
    pub(crate) seconds: Duration,
    pub(crate) rounds: u32,
    pub(crate) payload: usize,
    pub(crate) streams: u64,
    pub(crate) rate: u32,
    pub(crate) volume: u64,
    pub(crate) volume_time: Duration,
    pub(crate) scale: u64,
    /// Whether this process only runs the scale workload.
    pub(crate) is_scale_process: bool,
    pub(crate) profile: bool,
    /// The number of events of the loan log that views are built from.
    pub(crate) loans: usize,
}

impl Plan {
    fn of(arguments: &Arguments) -> Self {
        let quick = arguments.quick;
        let or = |given: Option<f64>, full, short| given.unwrap_or(if quick { short } else { full });
        let Arguments { seconds, rounds, streams, volume, volume_seconds, scale, .. } = arguments;
        let times = [seconds, volume_seconds].map(Option::is_some);
        let counts = [rounds.is_some(), streams.is_some(), volume.is_some(), scale.is_some()];
        Self {
            quick,
            has_default_amounts: !times.contains(&true) && !counts.contains(&true),
            writers: if arguments.writers.is_empty() { vec![1, 16, 64, 256] } else { arguments.writers.clone() },
            seconds: Duration::from_secs_f64(or(arguments.seconds, 2.0, 0.3)),
            rounds: arguments.rounds.unwrap_or(if quick { 1 } else { 5 }),
            payload: arguments.payload as usize,
            streams: arguments.streams.unwrap_or(if quick { 20 } else { 200 }),
            rate: arguments.rate,
            volume: arguments.volume.unwrap_or(if quick { 100_000 } else { 2_000_000 }),
            scale: arguments.scale.unwrap_or(if quick { 100_000 } else { 2_000_000 }),
            is_scale_process: arguments.scale_process,
            volume_time: Duration::from_secs_f64(or(arguments.volume_seconds, 120.0, 0.7)),
            profile: arguments.profile,
            loans: if quick { 20_000 } else { crate::loans::REAL },
        }
    }

    /// Returns the numbers of writers for the secondary workloads: the first and the last but one.
    pub(crate) fn few_writers(&self) -> Vec<u32> {
        let mut few: Vec<_> =
            self.writers.first().into_iter().chain(self.writers.iter().rev().nth(1)).copied().collect();
        few.dedup();
        few
    }

    fn form(&self) -> String {
        let form = if self.quick { "Short form" } else { "Full form" };
        let options = if self.has_default_amounts { "" } else { ", its amounts set by options" };
        let Self { rounds, payload, rate, streams, volume, scale, .. } = self;
        let seconds = self.seconds.as_secs_f64();
        let rounds = if *rounds == 1 { "one round".into() } else { format!("medians of {rounds} interleaved rounds") };
        format!(
            "{form}{options}: {rounds} of {seconds} s, payloads of {payload} bytes, {streams} streams of each length, \
             {rate} commands \
             per second, volume to {volume} events, scale to {scale}."
        )
    }
}

/// An open contender with the data set.
#[derive(Clone)]
pub(crate) struct FilledStore {
    pub(crate) contender: Arc<dyn Contender>,
    pub(crate) opened: Arc<dyn Opened>,
}

/// The state of a run.
pub(crate) struct Bench {
    pub(crate) plan: Plan,
    pub(crate) shape: Shape,
    pub(crate) report: Report,
    /// The data sets for the reading workloads.
    pub(crate) filled_stores: Vec<FilledStore>,
    kept_directories: Mutex<Vec<TempDir>>,
    pub(crate) contenders: Vec<Arc<dyn Contender>>,
    home: TempDir,
}

impl Bench {
    pub(crate) fn new(arguments: &Arguments, contenders: Vec<Arc<dyn Contender>>) -> Result<Self, Failure> {
        let home = tempfile::Builder::new().prefix("es-bench-").tempdir_in(&arguments.dir);
        let home = home.map_err(|error| {
            Failure::caused_by(format!("create a directory in {}", arguments.dir.display()), &error)
        })?;
        // Servers that run as another user need to traverse the directory.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(home.path(), open).map_err(|error| Failure::caused_by("open a directory", &error))?;
        let plan = Plan::of(arguments);
        let about = |contender: &Arc<dyn Contender>| About {
            name: contender.name().into(),
            role: contender.role(),
            about: contender.about(),
        };
        let report = Report {
            machine: Machine::detect(home.path()),
            form: plan.form(),
            quick: plan.quick,
            contenders: contenders.iter().map(about).collect(),
            ..Report::default()
        };
        let kept_directories = Mutex::default();
        Ok(Self {
            plan,
            shape: Shape::default(),
            report,
            filled_stores: Vec::new(),
            kept_directories,
            contenders,
            home,
        })
    }

    /// Returns the directory with all directories of the run.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Creates a directory, which is removed on drop.
    pub(crate) fn dir(&self) -> Result<TempDir, Failure> {
        tempfile::tempdir_in(self.home.path()).map_err(|error| Failure::caused_by("create a directory", &error))
    }

    /// Keeps a directory until the end of the run.
    pub(crate) fn keep(&self, dir: TempDir) {
        self.kept_directories.lock().unwrap_or_else(PoisonError::into_inner).push(dir);
    }

    pub(crate) async fn open(
        &self,
        contender: &Arc<dyn Contender>,
        dir: &Path,
        durability: Durability,
    ) -> Result<Arc<dyn Opened>, Failure> {
        let setup = Setup { durability, payload: self.plan.payload, shape: self.shape };
        // A subdirectory, because some contenders create their directory.
        contender.open(&dir.join("store"), setup).await.map(Arc::from)
    }

    /// Returns whether the contender with this name is selected.
    pub(crate) fn is_selected(&self, name: &str) -> bool {
        self.contenders.iter().any(|contender| contender.name() == name)
    }

    /// Returns the contenders that offer a task, and reports why others do not.
    pub(crate) fn contenders_for(&mut self, workload: &str, task: Task) -> Vec<Arc<dyn Contender>> {
        let mut contenders_for = Vec::new();
        for contender in &self.contenders {
            match contender.offers(task) {
                Ok(()) => contenders_for.push(Arc::clone(contender)),
                Err(reason) if contender.role() != Role::Limit => self.report.skip(workload, contender.name(), reason),
                Err(_) => {}
            }
        }
        contenders_for
    }

    /// Prints progress to stderr.
    pub(crate) fn progress(&self, workload: &str, what: &str) {
        eprintln!("{workload}: {what}");
    }

    /// Reports the failure of a contender. The run continues.
    pub(crate) fn record_failure(
        &mut self,
        workload: &str,
        case: &str,
        contender: &Arc<dyn Contender>,
        failure: &Failure,
    ) {
        let reason = if case.is_empty() { failure.to_string() } else { format!("{case}: {failure}") };
        eprintln!("{workload}: {} failed: {reason}", contender.name());
        self.report.skip(workload, contender.name(), reason);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn arguments_override_the_defaults_of_each_form() {
        let plan = |args: &[&str]| Plan::of(&Arguments::parse_from(["bench"].iter().chain(args)));
        let (full, quick) = (plan(&[]), plan(&["--quick", "--rounds", "3"]));
        assert_eq!((full.rounds, quick.rounds), (5, 3));
        assert_eq!(full.writers, [1, 16, 64, 256]);
        assert_eq!(full.few_writers(), [1, 64]);
        assert_eq!(plan(&["--writers", "8"]).few_writers(), [8]);
        assert!(quick.seconds < full.seconds && quick.volume < full.volume);
    }
}
