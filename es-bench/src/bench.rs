//! What workloads share: the amounts of a run ([`Plan`]), and its contenders, directories and report ([`Bench`]).

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use crate::cli::Arguments;
use crate::contender::{Contender, Durability, Opened, Role, Setup, Shape, Task};
use crate::failure::Failure;
use crate::machine::Machine;
use crate::report::{About, Report};

/// What was asked for, with the defaults of the form.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) quick: bool,
    /// Whether all amounts are those of the form.
    pub(crate) is_as_it_comes: bool,
    pub(crate) writers: Vec<u32>,
    pub(crate) seconds: Duration,
    pub(crate) rounds: u32,
    pub(crate) payload: usize,
    pub(crate) streams: u64,
    pub(crate) rate: u32,
    pub(crate) volume: u64,
    pub(crate) volume_time: Duration,
    pub(crate) scale: u64,
    /// Whether this process is there for the scale workload alone.
    pub(crate) is_apart: bool,
    pub(crate) profile: bool,
    /// How many events of the loan log views are built of.
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
            is_as_it_comes: !times.contains(&true) && !counts.contains(&true),
            writers: if arguments.writers.is_empty() { vec![1, 16, 64, 256] } else { arguments.writers.clone() },
            seconds: Duration::from_secs_f64(or(arguments.seconds, 2.0, 0.3)),
            rounds: arguments.rounds.unwrap_or(if quick { 1 } else { 5 }),
            payload: arguments.payload as usize,
            streams: arguments.streams.unwrap_or(if quick { 20 } else { 200 }),
            rate: arguments.rate,
            volume: arguments.volume.unwrap_or(if quick { 100_000 } else { 2_000_000 }),
            scale: arguments.scale.unwrap_or(if quick { 100_000 } else { 2_000_000 }),
            is_apart: arguments.apart,
            volume_time: Duration::from_secs_f64(or(arguments.volume_seconds, 120.0, 0.7)),
            profile: arguments.profile,
            loans: if quick { 20_000 } else { crate::loans::REAL },
        }
    }

    /// The numbers of writers of the workloads beside the main one: the least, and the last but one.
    pub(crate) fn few_writers(&self) -> Vec<u32> {
        let mut few: Vec<_> =
            self.writers.first().into_iter().chain(self.writers.iter().rev().nth(1)).copied().collect();
        few.dedup();
        few
    }

    fn form(&self) -> String {
        let form = if self.quick { "Short form" } else { "Full form" };
        let options = if self.is_as_it_comes { "" } else { ", its amounts set by options" };
        let Self { rounds, payload, rate, streams, volume, scale, .. } = self;
        let seconds = self.seconds.as_secs_f64();
        let rounds = if *rounds == 1 { "one round".into() } else { format!("medians of {rounds} interleaved rounds") };
        format!(
            "{form}{options}: {rounds} of {seconds} s, payloads of {payload} bytes, {streams} streams of each length, {rate} commands \
             per second, volume to {volume} events, scale to {scale}."
        )
    }
}

/// A contender with the library in it.
#[derive(Clone)]
pub(crate) struct Shelf {
    pub(crate) who: Arc<dyn Contender>,
    pub(crate) opened: Arc<dyn Opened>,
}

/// The state of a run.
pub(crate) struct Bench {
    pub(crate) plan: Plan,
    pub(crate) shape: Shape,
    pub(crate) report: Report,
    /// What the reading workloads share.
    pub(crate) shelves: Vec<Shelf>,
    kept: Mutex<Vec<TempDir>>,
    pub(crate) contenders: Vec<Arc<dyn Contender>>,
    home: TempDir,
}

impl Bench {
    pub(crate) fn new(arguments: &Arguments, contenders: Vec<Arc<dyn Contender>>) -> Result<Self, Failure> {
        let home = tempfile::Builder::new().prefix("es-bench-").tempdir_in(&arguments.dir);
        let home = home.map_err(|error| {
            Failure::caused_by(format!("create a directory in {}", arguments.dir.display()), &error)
        })?;
        // NOTE: servers that run as another user have to get through it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(home.path(), open).map_err(|error| Failure::caused_by("open a directory", &error))?;
        let plan = Plan::of(arguments);
        let about = |who: &Arc<dyn Contender>| About { name: who.name().into(), role: who.role(), about: who.about() };
        let report = Report {
            machine: Machine::look(home.path()),
            form: plan.form(),
            quick: plan.quick,
            contenders: contenders.iter().map(about).collect(),
            ..Report::default()
        };
        let kept = Mutex::default();
        Ok(Self { plan, shape: Shape::default(), report, shelves: Vec::new(), kept, contenders, home })
    }

    /// Where all directories are.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// A new directory, removed when it is dropped.
    pub(crate) fn dir(&self) -> Result<TempDir, Failure> {
        tempfile::tempdir_in(self.home.path()).map_err(|error| Failure::caused_by("create a directory", &error))
    }

    /// Keeps a directory to the end of the run.
    pub(crate) fn keep(&self, dir: TempDir) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(dir);
    }

    pub(crate) async fn open(
        &self,
        who: &Arc<dyn Contender>,
        dir: &Path,
        durability: Durability,
    ) -> Result<Arc<dyn Opened>, Failure> {
        let setup = Setup { durability, payload: self.plan.payload, shape: self.shape };
        // NOTE: a directory below, because some want to make theirs.
        who.open(&dir.join("store"), setup).await.map(Arc::from)
    }

    /// Whether somebody of this name was chosen.
    pub(crate) fn takes_part(&self, name: &str) -> bool {
        self.contenders.iter().any(|who| who.name() == name)
    }

    /// Those who offer a task; of peers that do not it is noted why.
    pub(crate) fn entrants(&mut self, workload: &str, task: Task) -> Vec<Arc<dyn Contender>> {
        let mut entrants = Vec::new();
        for who in &self.contenders {
            match who.offers(task) {
                Ok(()) => entrants.push(Arc::clone(who)),
                Err(reason) if who.role() != Role::Limit => self.report.skip(workload, who.name(), reason),
                Err(_) => {}
            }
        }
        entrants
    }

    /// Says on stderr what goes on.
    pub(crate) fn say(&self, workload: &str, what: &str) {
        eprintln!("{workload}: {what}");
    }

    /// A contender has failed; it is in the report, and the run goes on.
    pub(crate) fn failed(&mut self, workload: &str, case: &str, who: &Arc<dyn Contender>, failure: &Failure) {
        let reason = if case.is_empty() { failure.to_string() } else { format!("{case}: {failure}") };
        eprintln!("{workload}: {} failed: {reason}", who.name());
        self.report.skip(workload, who.name(), reason);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn the_forms_have_their_defaults_and_what_is_given_counts() {
        let plan = |args: &[&str]| Plan::of(&Arguments::parse_from(["bench"].iter().chain(args)));
        let (full, quick) = (plan(&[]), plan(&["--quick", "--rounds", "3"]));
        assert_eq!((full.rounds, quick.rounds), (5, 3));
        assert_eq!(full.writers, [1, 16, 64, 256]);
        assert_eq!(full.few_writers(), [1, 64]);
        assert_eq!(plan(&["--writers", "8"]).few_writers(), [8]);
        assert!(quick.seconds < full.seconds && quick.volume < full.volume);
    }
}
