//! The command-line interface of the benchmark.

use std::path::PathBuf;

use clap::Parser;

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench                                     run everything, with the peers: about half an hour
  cargo xtask bench --quick                             run the short form, a check without usable figures
  cargo xtask bench --no-peers --only append --rounds 9 compare durable appends with the limits
  cargo xtask bench --no-peers --only scale --scale 50000000
                                                        measure cost up to 50 million events
  cargo xtask bench --contender es-rocksdb,umadb        run only these and the limits, which ratios need
  cargo xtask bench --json --svg --docs --readme        also write JSON, chart and documents
  cargo xtask bench --from run.json --docs              write the document from the JSON of an earlier run

The first build of the peers takes about ten minutes; --no-peers omits them.
Compare ratios, measured on an idle machine: an absolute figure depends on the machine.";

/// Measure the stores of this project, the limits of engine and disk, and the peers in one run
///
/// Rounds of all contenders are interleaved, so that a disturbance affects all of them. The result is the median of the
/// rounds, with the lowest and the highest.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench", after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Run the short form: fewer cases, one short round
    #[arg(long)]
    pub(crate) quick: bool,
    /// Workloads to run (see --list)
    #[arg(long, value_delimiter = ',', value_name = "WORKLOAD")]
    pub(crate) only: Vec<String>,
    /// Contenders to run, in addition to the limits (see --list)
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) contender: Vec<String>,
    /// List workloads and contenders, and the workloads that each contender does not offer
    #[arg(long)]
    pub(crate) list: bool,
    /// Write the results as JSON to this file; `-` writes to stdout instead of the tables
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "docs/benchmark.json")]
    pub(crate) json: Option<PathBuf>,
    /// Write the chart of durable appends to this file
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "docs/benchmark.svg")]
    pub(crate) svg: Option<PathBuf>,
    /// Write all results into this file, between the markers `<!-- bench:begin -->` and `<!-- bench:end -->`
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "docs/benchmarks.md")]
    pub(crate) docs: Option<PathBuf>,
    /// Write five rows of results into this file, between the same markers
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "README.md")]
    pub(crate) readme: Option<PathBuf>,
    /// Report the results of an earlier run from this JSON file, without measuring
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// Numbers of concurrent writers [default: 1,16,64,256]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) writers: Vec<u32>,
    /// Duration of a round of a contender in seconds [default: 2; quick: 0.3]
    #[arg(long, value_parser = seconds)]
    pub(crate) seconds: Option<f64>,
    /// Number of rounds [default: 5; quick: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: Option<u32>,
    /// Size of a payload in bytes
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(120..=1_000_000))]
    pub(crate) payload: u32,
    /// Number of streams of each length (10, 100 and 1,000 events) to load and read [default: 200; quick: 20]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) streams: Option<u64>,
    /// Commands per second in the latency workload
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Final number of events in the volume workload [default: 2000000; quick: 100000]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1_000..=50_000_000))]
    pub(crate) volume: Option<u64>,
    /// Final number of events in the scale workload [default: 2000000; quick: 100000]
    #[arg(long, value_parser = clap::value_parser!(u64).range(100_000..=1_000_000_000))]
    pub(crate) scale: Option<u64>,
    /// Time limit of a contender in the volume workload in seconds [default: 120; quick: 0.7]
    #[arg(long, value_parser = seconds)]
    pub(crate) volume_seconds: Option<f64>,
    /// Profile es-rocksdb while it appends, loads, reads and builds views
    ///
    /// Stacks are sampled in additional rounds, which are not part of the figures.
    #[arg(long)]
    pub(crate) profile: bool,
    /// Directory for the stores, which determines the measured disk; they are removed after the run
    #[arg(long, env = "ES_BENCH_DIR", default_value = "/var/tmp")]
    pub(crate) dir: PathBuf,
    /// Run the scale workload in this process instead of a child process
    #[arg(long, hide = true)]
    pub(crate) scale_process: bool,
    /// Measure memory and disk of one contender in this process and print them as JSON
    #[arg(long, hide = true, value_name = "SHAPE")]
    pub(crate) footprint: Option<String>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("expected a number of seconds, found {text:?}"))?;
    if seconds.is_finite() && (0.05..=86_400.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(format!("expected 0.05 to 86400 seconds, found {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn chart_document_and_readme_have_default_files() {
        let parse = |args: &[&str]| Arguments::try_parse_from(["bench"].iter().chain(args)).unwrap();
        let arguments = parse(&["--svg", "--docs", "--readme", "--quick"]);
        assert_eq!(arguments.svg, Some("docs/benchmark.svg".into()));
        assert_eq!(arguments.docs, Some("docs/benchmarks.md".into()));
        assert_eq!((arguments.readme, arguments.quick), (Some("README.md".into()), true));
        assert_eq!(parse(&["--readme", "other.md"]).readme, Some("other.md".into()));
        assert_eq!(parse(&["--only", "append,load", "--only", "read"]).only, ["append", "load", "read"]);
    }

    #[test]
    fn amounts_out_of_range_are_refused() {
        for wrong in [["--seconds", "0"], ["--seconds", "x"], ["--rounds", "0"], ["--writers", "0"]] {
            assert!(Arguments::try_parse_from(["bench"].iter().chain(&wrong)).is_err(), "{wrong:?}");
        }
    }
}
