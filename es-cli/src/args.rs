//! The command line: [`Cli`].

mod of_command;
mod of_projections;
mod of_replication;
mod of_retention;

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use es_tool::arguments::{exit_with_usage_error, whole_number};

use crate::failure::Failure;
use crate::service::{Credentials, Service, Target};

pub use of_command::{
    AppendArgs, Data, DropArgs, ExportArgs, ImportArgs, LogArgs, ReadArgs, RepairArgs, RetagArgs, SnapshotsArgs,
    StreamsArgs,
};
pub use of_projections::{ProjectionsCommand, ReasonArgs};
pub use of_replication::{MemberArgs, ReplicationCommand};
pub use of_retention::{
    DeleteArgs, LimitArgs, NoteArgs, RetainClearArgs, RetainSetArgs, ScavengeArgs, ScopeArgs, format_age,
};

/// Inspect, back up, repair and change an event store
///
/// Read-only commands: info, stats, streams, read, log, export, verify, backup, snapshots list, retain list,
/// retain scavenge --dry-run, replication status. They can run while a service has the store open, and show the store
/// as it is when the command starts.
///
/// All other commands fail while another process has the store open. repair and retag only read the store, but the
/// service must be stopped. restore and completions need no store.
///
/// In the store of a replication node, only the node writes replicated streams: append, import, delete and retain
/// refuse them, and retag refuses such a store. With --url, delete deletes them on all nodes.
///
/// With --url, these commands run in a service that has the store open: info, streams, read, log, delete, retain,
/// compact, snapshots, projections, replication. The service must serve its operations, for example at a Unix socket.
///
/// Exit codes: 0 success, 1 failure, 2 usage error, 3 conflict, 4 damage found.
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
  es --store data backup /mnt/backups/orders
  es --url unix:/run/orders/operations.sock info"
)]
pub struct Cli {
    /// The directory of the store
    #[arg(long, value_name = "DIR", env = "ES_STORE", global = true, display_order = 100)]
    store: Option<PathBuf>,
    /// The address of a running service, in place of --store: unix:PATH or a URL
    #[arg(long, value_name = "URL", global = true, display_order = 101)]
    url: Option<String>,
    /// The file with the token for --url; ES_TOKEN is the token itself
    #[arg(long, value_name = "F", global = true, display_order = 102, requires = "url")]
    token_file: Option<PathBuf>,
    /// The token for --url
    #[arg(long = "token", env = "ES_TOKEN", hide = true, hide_env_values = true, global = true)]
    token: Option<String>,
    /// The authorities that the service may have its certificate from, in PEM; by default those of Mozilla
    #[arg(long, value_name = "F", global = true, display_order = 103, requires = "url")]
    ca: Option<PathBuf>,
    /// The certificate of the client, in PEM
    #[arg(long = "cert", value_name = "F", global = true, display_order = 104, requires = "url")]
    client_certificate: Option<PathBuf>,
    /// The private key of the client, in PEM
    #[arg(long = "key", value_name = "F", global = true, display_order = 105, requires = "url")]
    client_key: Option<PathBuf>,
    /// Print JSON; lists of events and streams are JSON Lines
    #[arg(long, global = true, display_order = 106)]
    pub json: bool,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Returns the service of `--url`; otherwise the directory of the store. Exits the process with a usage error if
    /// neither is given.
    ///
    /// # Errors
    /// The errors of [`Service::new`].
    pub fn target(&self) -> Result<Target, Failure> {
        let Some(url) = &self.url else { return Ok(Target::Directory(self.store())) };
        let credentials = Credentials {
            token: self.token.clone(),
            token_file: self.token_file.clone(),
            authorities: self.ca.clone(),
            certificate: self.client_certificate.clone(),
            key: self.client_key.clone(),
        };
        Service::new(url, &credentials).map(Target::Service)
    }

    /// Exits the process with a usage error if the command line has both a directory and a service. `ES_STORE` is the
    /// default for commands without `--url`.
    pub fn check_target(&self, matches: &ArgMatches) {
        if self.is_remote() && matches.value_source("store") == Some(ValueSource::CommandLine) {
            let message = "the argument '--store <DIR>' cannot be used with '--url <URL>'";
            exit_with_usage_error::<Self>(ErrorKind::ArgumentConflict, message)
        }
    }

    /// Returns whether the command runs in a service.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.url.is_some()
    }

    /// Returns the directory of the store. Exits the process with a usage error if none is given.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        // clap does not accept an argument as required and global.
        self.store.clone().unwrap_or_else(|| {
            let message =
                "expected the directory of the store, found none; give --store DIR or set ES_STORE, or give --url URL";
            exit_with_usage_error::<Self>(ErrorKind::MissingRequiredArgument, message)
        })
    }
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the id, age, last position and size of the store
    #[command(after_help = "Example:\n  es --store data info --json")]
    Info,
    /// Count events, streams, bytes, categories, types and days; reads the whole log
    #[command(after_help = "Examples:\n  es --store data stats\n  es --store data stats --json")]
    Stats,
    /// List streams in name order
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
    /// --category, --type and --tag can be repeated. An event matches if it has one of the categories, one of the
    /// types, and all tags.
    ///
    /// --from and --after take a position, or LOG:POSITION with the id of the log (`es info` shows it). A position of
    /// another log, or after the end of the log, is refused.
    #[command(after_help = "\
Examples:
  es --store data log --from 1000 --limit 20
  es --store data log --after 0198b7a0-2f4a-7c3e-9b1a-5d6e7f809a1b:1000 --follow
  es --store data log --type order-placed --tag customer:VINET
  es --store data log --follow --json")]
    Log(LogArgs),
    /// Append one event to a stream
    ///
    /// With --id the command is idempotent: a repeat appends nothing and prints the same position. With --expect any or
    /// none it creates the store if it does not exist.
    ///
    /// A payload that no reader can decode is refused: text that is not JSON, more than 127 levels of arrays and
    /// objects, and an escape that is half of a surrogate pair. Numbers keep every digit.
    #[command(after_help = "\
Examples:
  es --store data append order-1 --type order-placed --data '{\"customer\":\"VINET\"}' --expect none
  es --store data append order-1 --type order-approved --data '{}' --expect 0 --tag customer:VINET
  cat placed.json | es --store data append order-2 --type order-placed --data -")]
    Append(AppendArgs),
    /// Import events from JSON Lines
    ///
    /// The file is text in UTF-8, also compressed by gzip or zstd. Creates the store if it does not exist. A line has
    /// "stream", "type" and "data", and optionally "id", "version", "recorded_at", "occurred_at", "tags", "metadata",
    /// "keys", "correlation_id", "causation_id" and "stamp". A payload that is not JSON has "content_type" and
    /// "data_base64" in place of "data". "revision" and "position" are accepted; the store assigns new ones.
    ///
    /// Times are in the format of RFC 3339. They are truncated to microseconds, and a leap second becomes the beginning
    /// of the next second, because other programs write such times.
    ///
    /// Payloads are kept byte for byte. They are not decoded, so that the export of any store can be imported.
    ///
    /// Each line is one commit, unless it has "commit": {"index", "size"}: the lines of such a commit must be
    /// consecutive, with consecutive positions if they have any, and are written together or not at all.
    ///
    /// Lines with ids can be imported again: events that the store has already are skipped. Lines without ids are
    /// appended again. A "recorded_at" is kept, unless the store has recorded a later event; then the event gets the
    /// time of that event. A line without "position" whose "recorded_at" is more than one day in the future is refused.
    /// An export that is imported into an empty store gives an identical export, except for "claims".
    ///
    /// A line {"removed": ...} imports a tombstone; tombstones must precede all other events of their stream. An import
    /// does not claim the unique keys of tombstones, and prints their number: claim them again.
    ///
    /// The import stops at the first bad line; the commits before it are written. It stops with exit code 3 at an id
    /// that belongs to another event, and at a stream that was hard deleted; up to --batch commits after such a line
    /// may be written. With --skip-bad the import lists these lines in a file as JSON Lines, and continues.
    ///
    /// The export of the store of a replication node is for inspection: no node opens a store with imported copies of
    /// replicated events. Start the node on an empty store; it pulls the events from its peers.
    #[command(after_help = "\
Examples:
  es --store data import events.jsonl
  es --store data import events.jsonl --skip-bad bad.jsonl
  es --store old export | es --store new import -")]
    Import(ImportArgs),
    /// Export all events as JSON Lines, in log order
    ///
    /// Events that are hidden by rules and deletions, and tombstones, are exported as {"removed": ...} without their
    /// content. If such an event still holds unique keys, the line has their number as "claims". The keys themselves
    /// are not known any more, so an import cannot claim them; it prints their number.
    ///
    /// Rows (views, checkpoints, snapshots, command results) are not exported. Use `es backup` to copy a whole store.
    ///
    /// A file is written as FILE.XXXXXX.incomplete until it is complete. An interrupted export leaves that file: delete
    /// it.
    #[command(after_help = "\
Examples:
  es --store data export events.jsonl
  es --store data export | gzip > events.jsonl.gz")]
    Export(ExportArgs),
    /// Verify checksums, positions, revisions and all indexes
    ///
    /// Lists the damage and exits with code 4 if the store is damaged.
    #[command(after_help = "Examples:\n  es --store data verify\n  es --store data verify --json")]
    Verify,
    /// Create an incremental, verified backup while the store is open
    ///
    /// Each backup is a complete store in a directory of its own; it shares unchanged files with the backup before it.
    /// To delete a backup, delete its directory.
    ///
    /// The command verifies the backup, not the store. It reads only new events from the store and rebuilds the
    /// indexes. Use `es verify` to verify the store.
    #[command(after_help = "\
Examples:
  es --store data backup /mnt/backups/orders
  es --store /mnt/backups/orders/backup-000001 stats")]
    Backup {
        /// The directory of the backups; created if it does not exist
        dir: PathBuf,
    },
    /// Restore a backup into a new directory and verify it
    ///
    /// The restored store keeps its store id, so its backups can be continued. Its log has a new id, because it
    /// continues with other events than the original: positions from before are refused if they carry the log id.
    #[command(after_help = "\
Examples:
  es restore /mnt/backups/orders --to data
  es restore /mnt/backups/orders --number 7 --to data")]
    Restore {
        /// The directory of the backups
        dir: PathBuf,
        /// The directory of the new store; must be empty or not exist
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// The number of the backup; the last backup by default
        #[arg(long, value_name = "N", value_parser = whole_number::<u32>(0..=u64::from(u32::MAX)))]
        number: Option<u32>,
    },
    /// Show damage and what a repair would lose; with --to, write a repaired store into a new directory
    ///
    /// Repair never changes the damaged directory. Stop the service first.
    ///
    /// The store keeps two records of each event, in different files. Damage of one record, or of an index, loses
    /// nothing. If both records of an event are damaged, the log of the repaired store ends with the last complete
    /// commit before that event. Readable events after it are written to NEWDIR.lost-and-found.jsonl, in the format of
    /// `es import`.
    ///
    /// A repair that loses events must be confirmed with --accept-loss and the number of lost events. The repaired
    /// store then has a new store id, because its history differs from that of the backups: begin new backups. The
    /// repair deletes all snapshots and the results of lost commands, resets consumer groups and reactors to the end of
    /// the log, and views are rebuilt. A replication node refuses a store that lost replicated events: start it on an
    /// empty store, which pulls all events from its peers.
    ///
    /// The store is written as NEWDIR.incomplete until it is complete. A repair that is interrupted leaves that
    /// directory: delete it.
    ///
    /// Without --to, the exit code is 4 if the store is damaged and 0 if it is not. If the store is not damaged,
    /// nothing is written.
    #[command(after_help = "\
Examples:
  es --store data repair
  es --store data repair --to data.repaired
  es --store data repair --to data.repaired --accept-loss 12")]
    Repair(RepairArgs),
    /// Copy the log into a new store and add tags to recorded events
    ///
    /// Queries find an event by the tags that were recorded with it. If a field becomes a tag later, older events do
    /// not have the tag, and queries of typed code fail with "has no tag". Stop the service, run this command, and
    /// start the service with the new directory.
    ///
    /// --tag can be repeated. It names an event type as it was recorded, the key of the tag, and a JSON pointer
    /// (RFC 6901) to the field in the content. A list gives a tag for each element; null and a missing field give none.
    /// The content can be JSON or MessagePack. For values that the code formats or upcasts, call `ReadOnlyStore::retag`
    /// of es-rocksdb in place of this command.
    ///
    /// The copy is that of an export and an import: positions, revisions, ids, times and unique keys are kept, hidden
    /// events become tombstones, and rows (views, checkpoints, snapshots, command results) are not copied. Therefore
    /// the store of a replication node is refused.
    ///
    /// The copy is in NEWDIR/incomplete until it is complete, and no program opens NEWDIR until then. A command that is
    /// interrupted leaves that directory: delete NEWDIR.
    #[command(after_help = "\
Examples:
  es --store data retag --to data.retagged --tag order-placed customer /customer
  es --store data retag --to data.retagged --tag order-placed product /lines/0/product --tag order-paid bank /bank/id")]
    Retag(RetagArgs),
    /// Compact the files of the store: less disk space, faster reads
    #[command(after_help = "Example:\n  es --store data compact")]
    Compact,
    /// List or delete snapshots
    #[command(
        subcommand,
        after_help = "Examples:\n  es --store data snapshots list\n  es --store data snapshots drop --category order"
    )]
    Snapshots(SnapshotsCommand),
    /// Set retention rules, and remove hidden events from disk
    ///
    /// A rule hides the events that it does not keep at once; `retain scavenge` removes them from disk. Rules and
    /// scavenges are events in the log, with --by and --reason: see `es log --category es.retention`.
    #[command(
        subcommand,
        after_help = "\
Examples:
  es --store data retain set --category session --max-age 30d
  es --store data retain list
  es --store data retain scavenge --dry-run"
    )]
    Retain(RetainCommand),
    /// Delete a stream
    ///
    /// Hides all events of the stream. The stream can be written again and continues at the next revision, unless
    /// --hard is given. `retain scavenge` removes the content from disk. Backups keep it until they are deleted. The
    /// name of the stream is kept.
    ///
    /// A stream that a replication node replicates is deleted on all nodes: run the command with --url on any node; if
    /// the aggregate declares an owner, on the node that decides the stream. Each node deletes the stream when it
    /// receives the deletion. Without --hard, events that another node appended without knowing of the deletion are
    /// kept, and deleted events stay in the log. With --hard, the stream is erased with all of its events, and `retain
    /// scavenge` on each node removes their content. Revisions, also that of --expect, are those of the node.
    #[command(after_help = "\
Examples:
  es --store data delete cart-4711 --reason 'abandoned'
  es --store data delete customer-ALFKI --hard --yes --by ada --reason 'asked to be forgotten'
  es --store data delete order-10248 --expect 3
  es --url unix:/run/orders/operations.sock delete order-10248 --reason 'a duplicate'")]
    Delete(DeleteArgs),
    /// Look at and administer the projections of a running service
    ///
    /// Needs --url. Each request is durable when the command ends, and is stored in the log with its reason.
    #[command(
        subcommand,
        after_help = "\
Examples:
  es --url http://127.0.0.1:9000 projections list
  es --url http://127.0.0.1:9000 projections rebuild sales --reason 'new tax rate'"
    )]
    Projections(ProjectionsCommand),
    /// Show the replication of a store or of a running service, and change the members of its group
    #[command(
        subcommand,
        after_help = "\
Examples:
  es --store data replication status
  es --url unix:/run/orders/operations.sock replication status --json
  es --url unix:/run/orders/operations.sock replication retire n3"
    )]
    Replication(ReplicationCommand),
    /// Print a shell completion script
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

impl Command {
    /// Returns whether the command writes the files of a store or of a backup. They, and the lists of their content,
    /// are for the user only.
    #[must_use]
    pub fn writes_a_store(&self) -> bool {
        match self {
            Self::Info
            | Self::Stats
            | Self::Streams(_)
            | Self::Read(_)
            | Self::Log(_)
            | Self::Export(_)
            | Self::Verify
            | Self::Snapshots(SnapshotsCommand::List(_))
            | Self::Retain(RetainCommand::List)
            | Self::Projections(_)
            | Self::Replication(_)
            | Self::Completions { .. } => false,
            Self::Append(_)
            | Self::Import(_)
            | Self::Backup { .. }
            | Self::Restore { .. }
            | Self::Repair(_)
            | Self::Retag(_)
            | Self::Compact
            | Self::Snapshots(SnapshotsCommand::Drop(_))
            | Self::Retain(_)
            | Self::Delete(_) => true,
        }
    }
}

/// A command of `retain`.
#[derive(Debug, Subcommand)]
pub enum RetainCommand {
    /// Set or replace the rule of a stream or category
    ///
    /// An event is hidden if any limit excludes it. A limit in the rule of a stream overrides the same limit in the
    /// rule of its category.
    #[command(after_help = "\
Examples:
  es --store data retain set --category session --max-age 30d
  es --store data retain set --stream sensor-7 --max-count 1000 --reason 'only the latest matter'
  es --store data retain set --stream order-10248 --truncate-before 5")]
    Set(RetainSetArgs),
    /// Clear the rule of a stream or category; shows hidden events that are not removed yet
    #[command(after_help = "Example:\n  es --store data retain clear --category session")]
    Clear(RetainClearArgs),
    /// List rules, deleted streams and scavenges
    #[command(after_help = "Examples:\n  es --store data retain list\n  es --store data retain list --json")]
    List,
    /// Remove hidden events from disk
    ///
    /// An interrupted scavenge continues when the command runs again. Disk space is freed when the store compacts its
    /// files, or by `es compact`. --dry-run counts the hidden events; it is read-only and can run while a service has
    /// the store open.
    #[command(after_help = "\
Examples:
  es --store data retain scavenge --dry-run
  es --store data retain scavenge
  es --store data retain scavenge --pause 50 --by ada --reason 'monthly'")]
    Scavenge(ScavengeArgs),
}

/// A command of `snapshots`.
#[derive(Debug, Subcommand)]
pub enum SnapshotsCommand {
    /// List snapshots
    #[command(after_help = "Example:\n  es --store data snapshots list --category order")]
    List(SnapshotsArgs),
    /// Delete snapshots; loads then fold all events until new snapshots are written
    #[command(after_help = "\
Examples:
  es --store data snapshots drop --stream order-10248
  es --store data snapshots drop --all")]
    Drop(DropArgs),
}
