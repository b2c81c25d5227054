//! What can be typed after `cargo xtask`.

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand};

use crate::fuzz::Target;

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                     see the order service work, on a sample made for it
  cargo xtask test                     run all tests
  cargo xtask test conflict            run the tests that have `conflict` in their name
  cargo xtask soak --cycles 200        run the long forms, the kills a tenth as long as they come
  cargo xtask fuzz --seconds 600 lines fuzz the lines of import for ten minutes
  cargo xtask bench --quick            measure, in the short form
  cargo xtask bench --no-peers         measure this project and the limits of engine and disk alone
  cargo xtask bench -- --help          see what else the benchmark takes
  cargo xtask --no-install ci          what CI checks, without installing anything

Each command first looks for what building RocksDB needs: a C++ compiler and libclang. What is missing is installed
with apt-get (as root or through sudo without a password), or else libclang is fetched from PyPI into the cache folder.
Where neither can be done, the command to type is printed.";

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Install nothing: when something is missing, print the command that installs it, and stop.
    #[arg(long, global = true, env = "ES_NO_INSTALL", value_parser = FalseyValueParser::new())]
    pub(crate) no_install: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, PartialEq, Subcommand)]
pub(crate) enum Command {
    /// Import a small sample into a fresh store and walk one order through its life.
    Demo,

    /// Run all tests of the workspace, with the doctests.
    Test {
        /// Handed to `cargo test --workspace` as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },

    /// The long forms of the tests: kills, power failures, flipped bits, random comparison, decoding, schedules, repair,
    /// projections, groups, memory, backups, fuzzing. As they come they take most of a day; a table at the end says what became
    /// of each.
    Soak(SoakArgs),

    /// Fuzz what decodes bytes: records, keys, lines, imports. Installs cargo-fuzz into the target folder where it is missing.
    Fuzz {
        /// For how long each target runs. The long form is an hour: 3600.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// What to fuzz; everything where nothing is named.
        #[arg(value_enum)]
        targets: Vec<Target>,
    },

    /// Measure, in the release profile (RocksDB itself is not compiled again), beside the limits of engine and disk and
    /// beside the peers, which take about ten minutes to build, once.
    Bench {
        /// `--no-peers` leaves the peers out; all else is handed to the benchmark as it is.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },

    /// Formatting, clippy and rustdoc, each of which must have nothing to say.
    Check,

    /// Package the crates, and build a user's crate against the packages, outside the workspace
    Package,

    /// `check`, `package`, then `test`: what CI runs.
    Ci,

    /// Only see to it that RocksDB can be built.
    Setup {
        /// Print the variables that cargo needs as `export` lines, for `eval`.
        #[arg(long)]
        print_env: bool,
    },
}

/// How long each part of a soak is.
#[derive(Debug, PartialEq, Args)]
pub(crate) struct SoakArgs {
    /// How often a process is killed, and how often its power is taken.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) cycles: u32,
    /// How many bits are flipped, over log, tables and manifest.
    #[arg(long, default_value_t = 600)]
    pub(crate) flips: u32,
    /// How many random histories RocksDB and the memory store are compared on.
    #[arg(long, default_value_t = 5_000)]
    pub(crate) cases: u32,
    /// How many changed inputs are decoded, of each kind.
    #[arg(long, default_value_t = 300_000)]
    pub(crate) inputs: u32,
    /// How many schedules each test of the writer runs under.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) schedules: u32,
    /// How many random runs projections get through, how often their process is killed, and how often groups and reactors crash.
    #[arg(long, default_value_t = 200)]
    pub(crate) runs: u32,
    /// How often a backup is killed, and how often a restore.
    #[arg(long, default_value_t = 300)]
    pub(crate) backups: u32,
    /// For how many seconds each fuzz target runs; 0 for not at all.
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
    fn what_follows_bench_is_handed_on() -> Result<(), clap::Error> {
        let args = vec!["append".to_owned(), "--seconds".to_owned(), "5".to_owned()];
        assert_eq!(parsed("xtask bench append --seconds 5")?.command, Command::Bench { args });
        let args = vec!["--help".to_owned()];
        assert_eq!(parsed("xtask bench -- --help")?.command, Command::Bench { args });
        Ok(())
    }

    #[test]
    fn no_install_is_understood_before_and_after_the_command() -> Result<(), clap::Error> {
        assert!(parsed("xtask --no-install ci")?.no_install);
        assert!(parsed("xtask ci --no-install")?.no_install);
        Ok(())
    }

    #[test]
    fn a_soak_can_be_shortened() -> Result<(), clap::Error> {
        let soak = parsed("xtask soak --cycles 20 --fuzz-seconds 0")?.command;
        let args = SoakArgs {
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
    fn fuzzing_takes_what_is_named_or_everything() -> Result<(), clap::Error> {
        assert_eq!(parsed("xtask fuzz")?.command, Command::Fuzz { seconds: 60, targets: Vec::new() });
        let two = Command::Fuzz { seconds: 5, targets: vec![Target::Keys, Target::Lines] };
        assert_eq!(parsed("xtask fuzz --seconds 5 keys lines")?.command, two);
        assert!(parsed("xtask fuzz everything").is_err());
        Ok(())
    }

    #[test]
    fn an_unknown_command_is_refused() {
        assert!(parsed("xtask tset").is_err());
    }
}
