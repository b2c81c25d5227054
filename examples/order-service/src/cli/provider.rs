//! The `provider` command, and the start of a provider as a child process.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::fulfilment_args::ProviderArgs;
use super::output::Output;
use crate::failure::Failure;
use crate::provider::{self, FaultPlan, ProviderRecord};

/// What the line with the address begins with.
const ADDRESS: &str = "provider on ";

/// The JSON output: the number of effects in the record.
#[derive(Serialize)]
struct ProviderStoppedJson {
    effects: usize,
}

/// Serves requests until Ctrl-C, or until standard input is closed if this is requested.
pub(super) async fn run(args: &ProviderArgs) -> Result<Output, Failure> {
    let record = ProviderRecord::open(&args.record)?;
    let listener = TcpListener::bind(args.listen).await;
    let failed = |source| Failure::Io { action: format!("listen on {}", args.listen), source };
    let listener = listener.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let input_closed = args.until_stdin_closes.then(stdin_closed);
    // A closed standard error must not stop the provider.
    let _ = writeln!(io::stderr(), "{ADDRESS}http://{address}");
    let stop = async move {
        match input_closed {
            Some(closed) => drop(closed.await),
            None => drop(tokio::signal::ctrl_c().await),
        }
    };
    provider::serve_provider(record, args.faults.plan(), listener, stop).await;
    let effects = provider::read_record(&args.record)?.len();
    Ok(Output::new(format!("stopped; the record has {effects} effects"), &ProviderStoppedJson { effects }))
}

/// Returns a receiver that completes when standard input is closed.
fn stdin_closed() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    // A blocking read cannot be cancelled, so it has a thread that ends with the process.
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = sender.send(());
    });
    receiver
}

/// Returns the default record of the provider: a file beside the directory of the store.
pub(super) fn default_record(data: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(data).map_err(|source| Failure::io("resolve", data, source))?;
    let mut name = absolute.file_name().unwrap_or_default().to_owned();
    name.push(".provider.jsonl");
    Ok(absolute.with_file_name(name))
}

/// A provider that runs as a child process. It ends with this process, also after a kill: its standard input is closed
/// then.
pub(super) struct ProviderProcess {
    child: Child,
    input: Option<ChildStdin>,
    pub(super) url: String,
}

impl ProviderProcess {
    /// Starts a provider and waits until it accepts requests.
    pub(super) fn start(record: &Path, faults: FaultPlan) -> Result<Self, Failure> {
        let failed = |source| Failure::Io { action: "start the provider".to_owned(), source };
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(["provider", "--until-stdin-closes", "--listen", "127.0.0.1:0", "--record"]).arg(record);
        command.args(["--fail-rate", &faults.fail_rate.to_string(), "--unpaid-rate", &faults.unpaid_rate.to_string()]);
        command.args(["--seed", &faults.seed.to_string()]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(failed)?;
        let input = child.stdin.take();
        let mut errors = BufReader::new(child.stderr.take().map_or_else(no_errors, |errors| Box::new(errors)));
        let mut line = String::new();
        errors.read_line(&mut line).map_err(failed)?;
        let Some(url) = line.trim_end().strip_prefix(ADDRESS).map(ToOwned::to_owned) else {
            // The rest of the message, if it has several lines.
            let _ = errors.read_to_string(&mut line);
            let _ = child.wait();
            return Err(Failure::ProviderProcess { detail: line.trim_end().to_owned() });
        };
        Ok(Self { child, input, url })
    }

    /// Stops the provider and waits for its end.
    pub(super) fn stop(mut self) -> Result<(), Failure> {
        drop(self.input.take());
        let ended = self.child.wait();
        ended.map(drop).map_err(|source| Failure::Io { action: "wait for the provider".to_owned(), source })
    }
}

fn no_errors() -> Box<dyn Read> {
    Box::new(io::empty())
}
