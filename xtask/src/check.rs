//! Formatting, clippy and rustdoc. A warning is a failure.

use std::time::Instant;

use crate::bench;
use crate::command_line::CommandLine;
use crate::console;
use crate::failure::Failure;
use crate::workspace::Workspace;

/// A check of the sources, which is a stage of the command.
struct Check {
    name: &'static str,
    command: CommandLine,
    builds_rocksdb: bool,
}

/// Runs the stages in order and stops at the first failure.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    for stage in stages(workspace) {
        let start = Instant::now();
        console::heading(stage.name);
        if stage.builds_rocksdb {
            workspace.announce_rocksdb_build();
        }
        stage.command.run()?;
        console::note(&format!("{}: {}", stage.name, console::duration(start.elapsed())));
    }
    Ok(())
}

/// Returns the stages, the fastest first.
///
/// Arguments of clippy and rustdoc turn warnings into errors. `RUSTFLAGS` would do so as well, and would compile all
/// dependencies again.
fn stages(workspace: &Workspace) -> [Check; 4] {
    let formatting = workspace.cargo(["fmt", "--all", "--check"]);
    // clippy would have to compile the peers, which takes ten minutes.
    let peers =
        ["fmt", "--manifest-path", bench::PEERS, "--package", "es-bench-peers", "--package", "protoc", "--check"];
    let peers = workspace.cargo(peers);
    let clippy = workspace.cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    let rustdoc = workspace.cargo(["doc", "--workspace", "--no-deps"]).variable("RUSTDOCFLAGS", "-Dwarnings");
    [
        Check { name: "formatting", command: formatting, builds_rocksdb: false },
        Check { name: "formatting of the peers", command: peers, builds_rocksdb: false },
        Check { name: "clippy", command: clippy, builds_rocksdb: true },
        Check { name: "rustdoc", command: rustdoc, builds_rocksdb: true },
    ]
}
