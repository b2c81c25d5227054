//! The command-line interface of `cargo xtask`.

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand};

use crate::fuzz::Target;
use crate::package::Store;

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                     run the order service on a generated sample
  cargo xtask test                     run all tests
  cargo xtask test conflict            run the tests with `conflict` in their names
  cargo xtask soak --cycles 200        run the long tests, with a tenth of the default number of kills
  cargo xtask mutants --only ID        put one known bug back and run the tests that must catch it
  cargo xtask fuzz --seconds 600 lines fuzz the lines of `es import` for ten minutes
  cargo xtask bench --quick            run the short benchmark
  cargo xtask bench --no-peers         run the benchmark without the peers
  cargo xtask bench -- --help          show the options of the benchmark
  cargo xtask --no-install ci          run the checks of CI without installing anything

Each command first checks the prerequisites of RocksDB: a C++ compiler and libclang. Missing ones are installed with
apt-get, as root or through sudo without a password. Otherwise the command to run is printed.";

/// Development commands of the project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Install nothing; if a prerequisite is missing, print the command that installs it
    #[arg(long, global = true, env = "ES_NO_INSTALL", value_parser = FalseyValueParser::new())]
    pub(crate) no_install: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, PartialEq, Subcommand)]
pub(crate) enum Command {
    /// Import a small sample into a new store and process an order
    Demo,

    /// Run all tests of the workspace, including doctests
    Test {
        /// Arguments for `cargo test --workspace`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },

    /// Run the long tests and print a table of the results
    ///
    /// The long tests are kills, power failures, flipped bits, random comparison, decoding, schedules, repair,
    /// projections, groups, memory, backups, load, mutants, a user's crate with RocksDB, and fuzzing. With the default
    /// numbers they take most of a day.
    Soak(SoakArgs),

    /// Put known bugs back, one at a time, and require that the tests fail
    ///
    /// `docs/guarantees.md` names the promises, their tests and the mutants that break them. The sources are changed
    /// in a copy under the target directory.
    Mutants(MutantsArgs),

    /// Fuzz the decoders of records, keys, lines, imports and frames, and sessions of a replica
    ///
    /// Installs cargo-fuzz into the target directory if it is missing.
    Fuzz {
        /// Duration of each target in seconds; the soak uses 3600
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Targets to fuzz; all by default
        #[arg(value_enum)]
        targets: Vec<Target>,
    },

    /// Run the benchmark in the release profile
    ///
    /// Compares this project with the limits of engine and disk, and with the peers, whose first build takes about ten
    /// minutes. RocksDB is not compiled again.
    Bench {
        /// `--no-peers`, and arguments for the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },

    /// Check formatting, clippy and rustdoc; a warning is a failure
    Check,

    /// Package the crates and build a user's crate against the packages, outside the workspace
    Package {
        /// The store of the user's crate; `rocksdb` compiles RocksDB again
        #[arg(long, value_enum, default_value_t = Store::Memory)]
        store: Store,
    },

    /// Run `check`, `package` and `test`
    Ci,

    /// Install the prerequisites of RocksDB
    Setup,
}

/// The mutants to run.
#[derive(Debug, Default, PartialEq, Args)]
pub(crate) struct MutantsArgs {
    /// Run only the mutant with this id; can be repeated
    #[arg(long, value_name = "ID")]
    pub(crate) only: Vec<String>,
    /// List the mutants with their files and tests, and run none
    #[arg(long)]
    pub(crate) list: bool,
}

/// The length of each part of a soak.
#[derive(Debug, PartialEq, Args)]
pub(crate) struct SoakArgs {
    /// Number of killed processes, and of power failures
    #[arg(long, default_value_t = 2_000)]
    pub(crate) cycles: u32,
    /// Number of flipped bits in log, tables and manifest
    #[arg(long, default_value_t = 600)]
    pub(crate) flips: u32,
    /// Number of random histories for the comparison of RocksDB with the memory store
    #[arg(long, default_value_t = 5_000)]
    pub(crate) cases: u32,
    /// Number of simulated lives of the log, each with kills, power failures, and a flip or a cut
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) log_seeds: u32,
    /// Number of mutated inputs for each decoder, and of flipped bits in the log
    #[arg(long, default_value_t = 300_000)]
    pub(crate) inputs: u32,
    /// Number of schedules for each test of the writer
    #[arg(long, default_value_t = 100_000)]
    pub(crate) schedules: u32,
    /// Number of random runs and of kills for projections, and of crashes for groups and reactors
    #[arg(long, default_value_t = 200)]
    pub(crate) runs: u32,
    /// Number of killed backups, and of killed restores
    #[arg(long, default_value_t = 300)]
    pub(crate) backups: u32,
    /// Duration of each fuzz target in seconds; 0 skips fuzzing
    #[arg(long, default_value_t = 3_600)]
    pub(crate) fuzz_seconds: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_of_bench_are_forwarded() -> Result<(), clap::Error> {
        let args = vec!["append".to_owned(), "--seconds".to_owned(), "5".to_owned()];
        assert_eq!(parsed("xtask bench append --seconds 5")?.command, Command::Bench { args });
        let args = vec!["--help".to_owned()];
        assert_eq!(parsed("xtask bench -- --help")?.command, Command::Bench { args });
        Ok(())
    }

    #[test]
    fn no_install_is_accepted_before_and_after_the_command() -> Result<(), clap::Error> {
        assert!(parsed("xtask --no-install ci")?.no_install);
        assert!(parsed("xtask ci --no-install")?.no_install);
        Ok(())
    }

    #[test]
    fn mutants_are_selected_by_id() -> Result<(), clap::Error> {
        let only = vec!["a".to_owned(), "b".to_owned()];
        let expected = MutantsArgs { only, list: true };
        assert_eq!(parsed("xtask mutants --only a --only b --list")?.command, Command::Mutants(expected));
        Ok(())
    }

    #[test]
    fn a_soak_can_be_shortened() -> Result<(), clap::Error> {
        let soak = parsed("xtask soak --cycles 20 --fuzz-seconds 0")?.command;
        let args = SoakArgs {
            log_seeds: 1_000_000,
            cycles: 20,
            flips: 600,
            cases: 5_000,
            inputs: 300_000,
            schedules: 100_000,
            runs: 200,
            backups: 300,
            fuzz_seconds: 0,
        };
        assert_eq!(soak, Command::Soak(args));
        Ok(())
    }

    #[test]
    fn fuzz_selects_the_named_targets_or_all() -> Result<(), clap::Error> {
        assert_eq!(parsed("xtask fuzz")?.command, Command::Fuzz { seconds: 60, targets: Vec::new() });
        let two = Command::Fuzz { seconds: 5, targets: vec![Target::Frames, Target::Lines] };
        assert_eq!(parsed("xtask fuzz --seconds 5 frames lines")?.command, two);
        assert!(parsed("xtask fuzz everything").is_err());
        Ok(())
    }

    #[test]
    fn an_unknown_command_is_refused() {
        assert!(parsed("xtask tset").is_err());
    }
}
