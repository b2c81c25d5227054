//! Formatting, clippy and rustdoc: none of them may have anything to say.

use std::time::Instant;

use crate::bench;
use crate::failure::Failure;
use crate::run::CommandLine;
use crate::say;
use crate::workspace::Workspace;

/// Runs the stages one after the other, and stops at the first that fails.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    for (name, line) in stages(workspace) {
        let start = Instant::now();
        say::heading(name);
        if !name.starts_with(FORMATTING) {
            workspace.announce_rocksdb();
        }
        line.run()?;
        say::note(&format!("{name}: {}", say::duration(start.elapsed())));
    }
    Ok(())
}

const FORMATTING: &str = "formatting";

/// The quickest first. Warnings are made errors through arguments that reach our own crates only:
/// RUSTFLAGS would have everything compiled again.
fn stages(workspace: &Workspace) -> [(&'static str, CommandLine); 4] {
    let formatting = workspace.cargo(["fmt", "--all", "--check"]);
    // NOTE: no more than this, because clippy would have to compile the peers; `cargo xtask bench` compiles them.
    let peers =
        ["fmt", "--manifest-path", bench::PEERS, "--package", "es-bench-peers", "--package", "protoc", "--check"];
    let peers = workspace.cargo(peers);
    let clippy = workspace.cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    let rustdoc = workspace.cargo(["doc", "--workspace", "--no-deps"]).variable("RUSTDOCFLAGS", "-Dwarnings");
    [(FORMATTING, formatting), ("formatting of the peers", peers), ("clippy", clippy), ("rustdoc", rustdoc)]
}
