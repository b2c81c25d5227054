//! What can be asked of the benchmark.

use std::path::PathBuf;

use clap::Parser;

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench                                     everything, with the peers: about half an hour
  cargo xtask bench --quick                             the short form: to see that it runs, not for figures
  cargo xtask bench --no-peers --only append --rounds 9 durable appends of this project beside the limits
  cargo xtask bench --no-peers --only scale --scale 50000000
                                                        whether cost stays flat up to 50 million events
  cargo xtask bench --contender es-rocksdb,umadb        these alone (the limits come along: ratios need them)
  cargo xtask bench --json --svg --docs --readme        also as JSON and as a chart, and into the documents
  cargo xtask bench --from run.json --docs              no run: the document from the JSON of an earlier one

Peers are built first, about ten minutes, once; --no-peers leaves them out.
A figure of a run means little by itself: compare ratios, measured while the machine does nothing else.";

/// Measures this project's stores, the limits of engine and disk, and (unless built without) what a user would pick
/// instead, all in one run on one machine.
///
/// Rounds of all contenders are interleaved, so that what disturbs one disturbs all; medians with the lowest and the highest
/// round are printed.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench", after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The short form: fewer cases, one short round.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these workloads (see --list).
    #[arg(long, value_delimiter = ',', value_name = "WORKLOAD")]
    pub(crate) only: Vec<String>,
    /// Only these contenders, and the limits (see --list).
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) contender: Vec<String>,
    /// Lists workloads and contenders, and what each contender does not offer.
    #[arg(long)]
    pub(crate) list: bool,
    /// Writes the results as JSON to this file; `-` for stdout, instead of the tables.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "docs/benchmark.json")]
    pub(crate) json: Option<PathBuf>,
    /// Draws the chart of durable appends to this file.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "docs/benchmark.svg")]
    pub(crate) svg: Option<PathBuf>,
    /// Writes all results into this file, between its markers `<!-- bench:begin -->` and `<!-- bench:end -->`.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "docs/benchmarks.md")]
    pub(crate) docs: Option<PathBuf>,
    /// Writes five rows of results into this file, between the same markers.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "README.md")]
    pub(crate) readme: Option<PathBuf>,
    /// Measures nothing and reports what is in this JSON of an earlier run.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// How many writers append at the same time. [default: 1,16,64,256]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) writers: Vec<u32>,
    /// Seconds of one round of one contender. [default: 2; quick: 0.3]
    #[arg(long, value_parser = seconds)]
    pub(crate) seconds: Option<f64>,
    /// How many rounds; medians are of these. [default: 5; quick: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: Option<u32>,
    /// The size of a payload in bytes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(120..=1_000_000))]
    pub(crate) payload: u32,
    /// How many streams of 10, of 100 and of 1,000 events each are loaded and read. [default: 200; quick: 20]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) streams: Option<u64>,
    /// Commands per second in the latency workload.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// How many events the log grows to in the volume workload. [default: 2000000; quick: 100000]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1_000..=50_000_000))]
    pub(crate) volume: Option<u64>,
    /// How many events this project's store grows to in the scale workload. [default: 2000000; quick: 100000]
    #[arg(long, value_parser = clap::value_parser!(u64).range(100_000..=1_000_000_000))]
    pub(crate) scale: Option<u64>,
    /// Seconds after which a contender is stopped in the volume workload, however far it came. [default: 120; quick: 0.7]
    #[arg(long, value_parser = seconds)]
    pub(crate) volume_seconds: Option<f64>,
    /// Also says where processor time goes while es-rocksdb appends, loads, reads and builds views: by stacks that are sampled in
    /// rounds of their own, which do not count.
    #[arg(long)]
    pub(crate) profile: bool,
    /// Where the stores are made, and removed again; the disk that is measured.
    #[arg(long, env = "ES_BENCH_DIR", default_value = "/var/tmp")]
    pub(crate) dir: PathBuf,
    /// Runs the scale workload in this process, and not in one of its own.
    #[arg(long, hide = true)]
    pub(crate) apart: bool,
    /// Measures memory and disk of one contender in this process, in this directory, and prints them as JSON.
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
    fn what_cannot_be_measured_is_refused() {
        for wrong in [["--seconds", "0"], ["--seconds", "x"], ["--rounds", "0"], ["--writers", "0"]] {
            assert!(Arguments::try_parse_from(["bench"].iter().chain(&wrong)).is_err(), "{wrong:?}");
        }
    }
}
