//! What can be asked on the command line.

mod of_command;
mod of_retention;

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

pub use of_command::{
    AppendArgs, Data, DropArgs, ExportArgs, ImportArgs, LogArgs, ReadArgs, RepairArgs, SnapshotsArgs, StreamsArgs,
};
pub use of_retention::{
    DeleteArgs, LimitArgs, NoteArgs, RetainClearArgs, RetainSetArgs, ScavengeArgs, ScopeArgs, shown_age,
};

/// The operator's tool for an event store in a directory.
///
/// What only looks (info, stats, streams, read, log, export, verify, backup, snapshots list, retain list) works beside a service
/// that has the store open, and shows it as it is when the command begins. What writes (append, import, compact, snapshots drop,
/// retain set, clear and scavenge, delete) needs the store for itself, and so does repair, which only reads it. restore and
/// completions need no store.
///
/// Exit codes: 0 well, 1 failed (the message says why), 2 not understood, 3 conflict, 4 damage found.
#[derive(Debug, Parser)]
#[command(
    name = "es",
    version,
    after_help = "\
Examples:
  es --store data stats
  es --store data read order-10248
  es --store data log --category order --follow
  es --store data export events.jsonl
  es --store data backup /mnt/backups/orders"
)]
pub struct Cli {
    /// The directory of the store
    #[arg(long, value_name = "DIR", env = "ES_STORE", global = true, display_order = 100)]
    store: Option<PathBuf>,
    /// Answer in JSON; events, and streams in a list, are one line of JSON each
    #[arg(long, global = true, display_order = 101)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The directory of the store; ends the process where none is given.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        // NOTE: clap cannot have an argument both required and allowed behind the command.
        self.store.clone().unwrap_or_else(|| {
            let message = "expected the directory of the store, found none; give --store DIR or set ES_STORE";
            Self::command().error(ErrorKind::MissingRequiredArgument, message).exit()
        })
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what the store says of itself
    #[command(after_help = "Example:\n  es --store data info --json")]
    Info,
    /// Count events, streams, categories, types, days and bytes; reads the whole log
    #[command(after_help = "Examples:\n  es --store data stats\n  es --store data stats --json")]
    Stats,
    /// List streams in the order of their names
    #[command(after_help = "\
Examples:
  es --store data streams --category order
  es --store data streams --prefix order-102 --limit 10 --json")]
    Streams(StreamsArgs),
    /// Read one stream
    #[command(after_help = "\
Examples:
  es --store data read order-10248
  es --store data read order-10248 --backward --limit 1 --json")]
    Read(ReadArgs),
    /// Read the log
    ///
    /// Given several times, --category and --type allow each of theirs; of --tag an event must have all.
    #[command(after_help = "\
Examples:
  es --store data log --from 1000 --limit 20
  es --store data log --type order-placed --tag customer:VINET
  es --store data log --follow --json")]
    Log(LogArgs),
    /// Append one event to a stream; creates the store where there is none, with --expect any or none
    ///
    /// With --id it can be repeated: the same event again adds nothing and gives the first answer.
    #[command(after_help = "\
Examples:
  es --store data append order-1 --type order-placed --data '{\"customer\":\"VINET\"}' --expect none
  es --store data append order-1 --type order-approved --data '{}' --expect 0 --tag customer:VINET
  cat placed.json | es --store data append order-2 --type order-placed --data -")]
    Append(AppendArgs),
    /// Import events from lines of JSON; creates the store where there is none
    ///
    /// A line is {"stream", "type", "data"} and, where wanted, "id", "version", "recorded_at", "occurred_at", "tags",
    /// "metadata", "correlation_id", "causation_id"; for a payload that is not JSON, "content_type" and "data_base64" in place
    /// of "data". "revision" and "position" are allowed but given anew. Lines with "commit": {"index", "size"} are one
    /// commit, written whole or not at all, and have positions that follow each other where they have any; a line that begins a
    /// commit ends one that is not whole yet. Each other line is a commit of its own.
    ///
    /// With ids, an import that is repeated or was killed adds nothing twice. Without ids, it adds everything again. A
    /// "recorded_at" is kept unless the store has recorded something later: then it is that later time. One more than a day in the
    /// future is a bad line, because no event could be recorded before it any more. So an export that is imported into an empty
    /// store is the same export again, byte for byte, except for the "claims" of {"removed": ...}.
    ///
    /// Lines {"removed": ...} keep the places of hidden and removed events; they come before all other events of their stream. An
    /// import does not claim the unique keys that such an event claimed, and prints how many they are: claim them again.
    ///
    /// A bad line ends the import; the commits before it are in. An id that belongs to another event ends it with exit code 3, as
    /// does a stream that was deleted for ever, and up to --batch commits behind it may be in. With --skip-bad all of these are
    /// listed in a file, one JSON object per line, and the import goes on.
    #[command(after_help = "\
Examples:
  es --store data import events.jsonl
  es --store data import events.jsonl --skip-bad bad.jsonl
  es --store old export | es --store new import -")]
    Import(ImportArgs),
    /// Export all events as lines of JSON, in the order of the log
    ///
    /// Rows (views, checkpoints, snapshots, results of commands) are not exported: for a whole store use `es backup`.
    ///
    /// A hidden or removed event is a line {"removed": ...} with its place and without its content. If unique keys are
    /// held by its claims, the line has their number as "claims". The keys themselves are not known any more, so an
    /// import does not claim them; it prints how many they are.
    #[command(after_help = "\
Examples:
  es --store data export events.jsonl
  es --store data export | gzip > events.jsonl.gz")]
    Export(ExportArgs),
    /// Look at everything: checksums, positions, revisions, and whether all indexes agree with the log
    ///
    /// Exit code 4, and a list, when anything is damaged.
    #[command(after_help = "Examples:\n  es --store data verify\n  es --store data verify --json")]
    Verify,
    /// Make a backup beside the earlier ones in a directory: online, incremental, verified
    ///
    /// Each backup is a whole store in a directory of its own, and shares the files that did not change with the one
    /// before. To remove a backup, remove its directory.
    ///
    /// The copy is verified, not the store: of the store only what is new in its log is read, and indexes are made anew. Whether
    /// the store itself is damaged is said by `es verify`.
    #[command(
        after_help = "Examples:\n  es --store data backup /mnt/backups/orders\n  es --store /mnt/backups/orders/backup-000001 stats"
    )]
    Backup {
        /// The directory of the backups; made where there is none
        dir: PathBuf,
    },
    /// Make a store from the last backup in a directory, or from a certain one; verified
    #[command(after_help = "\
Examples:
  es restore /mnt/backups/orders --to data
  es restore /mnt/backups/orders --number 7 --to data")]
    Restore {
        /// The directory of the backups
        dir: PathBuf,
        /// The directory of the new store, empty or not there yet
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Which backup
        #[arg(long, value_name = "N")]
        number: Option<u32>,
    },
    /// Show what is damaged and what can be saved; with --to, write a repaired store into a new directory
    ///
    /// Nothing is ever repaired by itself, and the damaged directory is only read. Stop the service first.
    ///
    /// Each event stands twice, so that damage of one copy, or of any index, costs nothing. An event that is whole nowhere ends
    /// the log, which has no gaps: events are kept up to the last whole commit before it, and those behind it that can be read
    /// are set aside in NEWDIR.lost-and-found.jsonl, in the form of `es import`. Such a loss must be accepted with --accept-loss
    /// and the number of events that go; the repaired store then has a new store id, because it is another history than that
    /// which backups know. Its snapshots and the results of the commands that go are dropped, views are built again, and
    /// consumer groups and reactors are set back.
    ///
    /// Without --to, exit code 4 when anything is damaged, 0 when nothing is. Where nothing is damaged nothing is written,
    /// also with --to.
    #[command(after_help = "\
Examples:
  es --store data repair
  es --store data repair --to data.repaired
  es --store data repair --to data.repaired --accept-loss 12")]
    Repair(RepairArgs),
    /// Sort everything into its last place on disk: smaller, and cheaper to read
    #[command(after_help = "Example:\n  es --store data compact")]
    Compact,
    /// List or drop snapshots
    #[command(
        subcommand,
        after_help = "Examples:\n  es --store data snapshots list\n  es --store data snapshots drop --category order"
    )]
    Snapshots(SnapshotsCommand),
    /// Say which events are kept, and remove for good those that are not
    ///
    /// Rules hide at once what they do not keep; `retain scavenge` removes it. Both are events in the log, with who and why:
    /// see `es log --category es.retention`.
    #[command(
        subcommand,
        after_help = "\
Examples:
  es --store data retain set --category session --max-age 30d
  es --store data retain list
  es --store data retain scavenge --dry-run"
    )]
    Retain(RetainCommand),
    /// Delete a stream: hide all of it, or end it for ever
    ///
    /// A stream that was deleted may be written again, and goes on at the next revision; with --hard never. Its content goes
    /// from the disk with the next `retain scavenge`, and from backups when these are removed. Its name stays.
    #[command(after_help = "\
Examples:
  es --store data delete cart-4711 --reason 'abandoned'
  es --store data delete customer-ALFKI --hard --yes --by ada --reason 'asked to be forgotten'
  es --store data delete order-10248 --expect 3")]
    Delete(DeleteArgs),
    /// Print what a shell needs to complete this command line
    #[command(after_help = "\
Examples:
  es completions bash > ~/.local/share/bash-completion/completions/es
  es completions zsh > ~/.zfunc/_es
  es completions fish > ~/.config/fish/completions/es.fish")]
    Completions {
        /// The shell
        #[arg(value_parser = clap::builder::EnumValueParser::<Shell>::new())]
        shell: Shell,
    },
}

/// What is kept.
#[derive(Debug, Subcommand)]
pub enum RetainCommand {
    /// Set the rule of a stream or of a category, in place of the one that it has
    ///
    /// Limits hold together: what any of them excludes is hidden. A rule of a stream beats that of its category, limit by limit.
    #[command(after_help = "\
Examples:
  es --store data retain set --category session --max-age 30d
  es --store data retain set --stream sensor-7 --max-count 1000 --reason 'only the latest matter'
  es --store data retain set --stream order-10248 --truncate-before 5")]
    Set(RetainSetArgs),
    /// Clear the rule of a stream or of a category; what was not removed yet is shown again
    #[command(after_help = "Example:\n  es --store data retain clear --category session")]
    Clear(RetainClearArgs),
    /// List rules, deleted streams and scavenges
    #[command(after_help = "Examples:\n  es --store data retain list\n  es --store data retain list --json")]
    List,
    /// Remove from the disk what rules and deletions hide
    ///
    /// If it is interrupted, run it again: it goes on where it was. The directory gets smaller as the store compacts
    /// itself, or with `es compact`. With --dry-run it only looks, works beside a service, and says how much would go.
    #[command(after_help = "\
Examples:
  es --store data retain scavenge --dry-run
  es --store data retain scavenge
  es --store data retain scavenge --pause 50 --by ada --reason 'monthly'")]
    Scavenge(ScavengeArgs),
}

/// Which snapshots.
#[derive(Debug, Subcommand)]
pub enum SnapshotsCommand {
    /// List snapshots
    #[command(after_help = "Example:\n  es --store data snapshots list --category order")]
    List(SnapshotsArgs),
    /// Drop snapshots; states are folded from the events instead, until there are new ones
    #[command(
        after_help = "Examples:\n  es --store data snapshots drop --stream order-10248\n  es --store data snapshots drop --all"
    )]
    Drop(DropArgs),
}
