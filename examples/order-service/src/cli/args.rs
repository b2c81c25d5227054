//! The arguments of the command line.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use es_core::model::Metadata;
use es_core::{CommandId, Position, Revision};
use es_http::WriteCondition;
use es_tool::arguments::exit_with_usage_error;

use super::fulfilment_args::FulfilmentCommand;
use super::service_args::ServiceArgs;
use crate::config::PartialSettings;
use crate::domain::order::Place;
use crate::domain::product::Register;
use crate::domain::{
    City, Country, CustomerId, Destination, Discount, InitialStock, Invalid, OrderId, OrderLine, OrderLines,
    OrderLinesError, Price, ProductId, ProductName, Quantity, Reason,
};
use crate::import::Files;
use crate::moment::Moment;
use crate::shop::CommandOptions;

/// Manage orders and products in an event store
///
/// Exit codes: 0 success, 1 failure, 2 usage error, 3 conflict with another writer.
#[derive(Debug, Parser)]
#[command(
    name = "order-service",
    version,
    after_help = "\
Examples:
  order-service --data shop import --orders orders.csv --lines order_lines.csv
  order-service --data shop show 10248
  order-service --data shop report --json"
)]
pub(crate) struct Cli {
    /// Directory of the store; `import`, `place`, `product register` and `serve` create it
    #[arg(long, value_name = "DIR", env = "ORDER_SERVICE_DATA", global = true, display_order = 100)]
    pub(super) data: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true, display_order = 101)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Returns the directory of the store. Exits with a usage error if none is given.
    pub(super) fn data(&self) -> PathBuf {
        // clap does not support an argument that is both required and global.
        self.data.clone().unwrap_or_else(|| no_directory())
    }
}

/// Exits with a usage error: the directory of the store is missing.
pub(super) fn no_directory() -> ! {
    let message = "no directory given for the store; give --data DIR or set ORDER_SERVICE_DATA";
    exit_with_usage_error::<Cli>(ErrorKind::MissingRequiredArgument, message)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Import orders, order lines and products from CSV files
    ///
    /// The files are text in UTF-8, also compressed by gzip or zstd.
    ///
    /// Columns of orders: order_id, customer_id, order_date, shipped_date, ship_city, ship_country. Columns of lines:
    /// order_id, product_id, unit_price, quantity, discount. Columns of products: product_id, name, unit_price,
    /// units_in_stock. Other columns are ignored. Dates are YYYY-MM-DD, or RFC 3339 with at most 6 decimals and no leap
    /// second.
    ///
    /// Each order is placed at its order date. An order with a shipped date is also approved and shipped at that date.
    /// Imported orders do not change the stock.
    ///
    /// A repeated import changes nothing, and an import that was killed continues when it is run again. Without
    /// --skip-bad, an invalid row stops the import before anything is written, and an order that exists in the store
    /// with different content stops the import.
    #[command(after_help = "\
Examples:
  order-service --data shop import --orders orders.csv --lines order_lines.csv --products products.csv
  order-service --data shop import --orders orders.csv --lines order_lines.csv --skip-bad rejected.csv")]
    Import(ImportArgs),
    /// Serve the HTTP API until Ctrl-C or SIGTERM
    ///
    /// Commands and queries are JSON; `GET /events` streams events. Creates the store if it does not exist. Completes
    /// the requests in progress at shutdown; a second signal ends the process at once.
    ///
    /// Each flag is also a key of the file that --config names, and an environment variable. A flag takes precedence
    /// over the variable, the variable over the file. The file is the usual place of the configuration.
    #[command(after_help = "\
Requests:
  PUT  /orders/ID, /products/ID                  place an order, register a product
  POST /orders/ID/approve | ship | deliver | cancel
  POST /products/ID/receive | withdraw | move
  POST /orders/ID/fulfil                         start the fulfilment of an order
  GET  /orders/ID, /orders/ID/events, /orders/ID/fulfilment, /products/ID
  GET  /orders?customer=C&limit=N&after=NEXT     list orders, newest first
  GET  /products?at_most=N                       list products, lowest stock first
  GET  /demand, /revenue, /report
  GET  /events?after=P&category=C&type=T         stream the events after a position, then new events
  GET  /livez, /readyz, /metrics, /openapi.json
If-Match: \"V\" executes a command only at version V, the ETag of an earlier response. Idempotency-Key: \"K\" executes
it at most once. The response has ES-Position; a query with this header waits until its result includes that position.

Examples:
  order-service --data shop serve
  order-service --data shop serve --listen 127.0.0.1:0
  order-service serve --config order-service.toml --print-config
  curl -X PUT localhost:8080/orders/A-1 -H 'content-type: application/json' \\
       -d '{\"customer_id\":\"VINET\",\"lines\":[{\"product_id\":\"11\",\"unit_price\":\"14.00\",\"quantity\":12}]}'
  curl -X POST localhost:8080/orders/A-1/approve -H 'if-match: \"0\"'
  curl -N 'localhost:8080/events?after=0'")]
    Serve(Box<ServeArgs>),
    /// Show and administer projections
    ///
    /// With --url, sends the command to a running service. Without --url, opens the store and runs the projections
    /// until they have caught up; the store must not be open in a service.
    #[command(after_help = "\
Examples:
  order-service --data shop projections list
  order-service projections --url http://localhost:8081 pause sales --reason \"the numbers look wrong\"
  order-service projections --url http://localhost:8081 rebuild sales
  order-service --data shop projections parked sales
  order-service --data shop projections retry sales order-A-1
  order-service --data shop projections skip sales order-A-1 17 --reason \"placed by mistake\"")]
    Projections {
        #[command(flatten)]
        service: ServiceArgs,
        #[command(subcommand)]
        command: ProjectionCommand,
    },
    /// Show progress, lag and remaining time of the projections
    ///
    /// With --url, watches a running service until Ctrl-C. Without --url, opens the store and runs the projections
    /// until they have caught up.
    #[command(after_help = "\
Examples:
  order-service --data shop watch
  order-service watch --url http://localhost:8081")]
    Watch {
        #[command(flatten)]
        service: ServiceArgs,
    },
    #[command(flatten)]
    Fulfilment(FulfilmentCommand),
    #[command(flatten)]
    OnShop(ShopCommand),
}

/// A command on an open store.
#[derive(Debug, Subcommand)]
pub(crate) enum ShopCommand {
    /// Place an order
    #[command(after_help = "\
Examples:
  order-service --data shop place A-1 --customer VINET --line 11:12:14.00 --line 42:10:9.80:0.05
  order-service --data shop place A-2 --customer VINET --country France --line 11:12:14.00 --date 2016-07-04")]
    Place(PlaceArgs),
    /// Approve a placed order
    #[command(after_help = "Example:\n  order-service --data shop approve A-1 --expect 0")]
    Approve(StepArgs),
    /// Ship an approved order
    #[command(after_help = "Example:\n  order-service --data shop ship A-1 --date 2016-07-16")]
    Ship(StepArgs),
    /// Mark a shipped order as delivered
    #[command(after_help = "Example:\n  order-service --data shop deliver A-1")]
    Deliver(StepArgs),
    /// Cancel an order that has not been shipped
    #[command(after_help = "Example:\n  order-service --data shop cancel A-1 --reason \"ordered twice by mistake\"")]
    Cancel(CancelArgs),
    /// Show the current or a past state of an order
    #[command(after_help = "\
Examples:
  order-service --data shop show A-1
  order-service --data shop show A-1 --at 0
  order-service --data shop show A-1 --as-of 2016-07-10")]
    Show(ShowArgs),
    /// Show all events of an order
    #[command(after_help = "Example:\n  order-service --data shop history A-1 --json")]
    History {
        /// Order id
        id: OrderId,
    },
    /// Show totals over all orders
    ///
    /// Runs the projections until they have caught up, then reads the totals from the read models.
    #[command(after_help = "\
Examples:
  order-service --data shop report --json
  order-service --data shop report --verify")]
    Report {
        /// Replay the log as well, and fail if the result differs from the read models
        #[arg(long)]
        verify: bool,
    },
    /// Register products, and receive, withdraw and move stock
    #[command(subcommand)]
    Product(ProductCommand),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// File of the configuration in TOML
    #[arg(long, value_name = "FILE", env = "ORDER_SERVICE_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// Print the configuration and the origin of each setting, and exit
    #[arg(long)]
    pub(super) print_config: bool,
    #[command(flatten)]
    pub(super) settings: PartialSettings,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectionCommand {
    /// Show the status of each projection
    List,
    /// Pause a projection; it stays paused after a restart
    Pause(ReasonArgs),
    /// Resume a paused projection
    Resume(ReasonArgs),
    /// Rebuild the views of a projection in the background, and switch to them when they have caught up
    Rebuild(ReasonArgs),
    /// Clear the views of a projection and rebuild them; readers see incomplete views meanwhile
    Reset(ReasonArgs),
    /// List the parked keys: keys with an event that could not be applied
    Parked {
        /// Name of the projection
        name: String,
    },
    /// Retry the parked events of a key
    Retry {
        /// Name of the projection
        name: String,
        /// Key, as printed by `parked`
        key: String,
    },
    /// Skip the event that caused a key to be parked; the event is never applied
    Skip {
        /// Name of the projection
        name: String,
        /// Key, as printed by `parked`
        key: String,
        /// Position of the event, as printed by `parked`
        position: Position,
        /// Reason, recorded with the action
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ReasonArgs {
    /// Name of the projection
    pub(super) name: String,
    /// Reason, recorded with the action
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(super) reason: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProductCommand {
    /// Register a product
    #[command(
        after_help = "Example:\n  order-service --data shop product register 11 --name Tofu --price 23.25 --stock 35"
    )]
    Register(RegisterArgs),
    /// Add received items to the stock
    #[command(after_help = "Example:\n  order-service --data shop product receive 11 30")]
    Receive(StockArgs),
    /// Withdraw items from the stock
    #[command(after_help = "Example:\n  order-service --data shop product withdraw 11 12")]
    Withdraw(StockArgs),
    /// Move items from the stock of one product to another, in one commit
    #[command(after_help = "Example:\n  order-service --data shop product move 11 42 5")]
    Move(MoveArgs),
    /// Show a product
    #[command(after_help = "Example:\n  order-service --data shop product show 11")]
    Show {
        /// Product id
        id: ProductId,
    },
    /// List all products
    #[command(after_help = "Example:\n  order-service --data shop product list --json")]
    List,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// CSV file of the orders
    #[arg(long, value_name = "FILE")]
    orders: PathBuf,
    /// CSV file of the order lines
    #[arg(long, value_name = "FILE")]
    lines: PathBuf,
    /// CSV file of the products
    #[arg(long, value_name = "FILE")]
    products: Option<PathBuf>,
    /// Skip invalid orders and list them in this CSV file, which is replaced
    #[arg(long, value_name = "FILE")]
    pub(super) skip_bad: Option<PathBuf>,
    /// Print a line to standard error for each order when it is on disk
    #[arg(long, short)]
    pub(super) verbose: bool,
}

impl ImportArgs {
    /// Returns the files to import. Exits with a usage error if `--skip-bad` names one of them.
    pub(super) fn files(&self) -> Files {
        let files = Files { orders: self.orders.clone(), lines: self.lines.clone(), products: self.products.clone() };
        let inputs = [Some(&files.orders), Some(&files.lines), files.products.as_ref()];
        let is_input = |list: &PathBuf| inputs.into_iter().flatten().any(|input| is_same(list, input));
        if self.skip_bad.as_ref().is_some_and(is_input) {
            let message = "--skip-bad names an input file, which it would overwrite; give another file";
            exit_with_usage_error::<Cli>(ErrorKind::ArgumentConflict, message);
        }
        files
    }
}

/// Returns whether two paths name the same existing file.
fn is_same(a: &Path, b: &Path) -> bool {
    a == b || a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

/// Options of every command on an order or a product.
#[derive(Debug, Args)]
pub(crate) struct CommandArgs {
    /// Business time of the events: YYYY-MM-DD (start of the day in UTC), or RFC 3339 with at most 6 decimals and no
    /// leap second [default: now]
    #[arg(long, value_name = "TIME")]
    date: Option<Moment>,
    /// Expected revision of the last event, for `product move` of the first product; otherwise exit with code 3
    #[arg(long, value_name = "REVISION")]
    expect: Option<Revision>,
    /// Id of the command; a repeat returns the first result, another command with the id is refused
    #[arg(long, value_name = "ID")]
    request: Option<CommandId>,
}

impl CommandArgs {
    pub(crate) fn options(&self) -> CommandOptions {
        CommandOptions {
            occurred_at: self.date.map(Moment::start),
            condition: self.expect.map_or(WriteCondition::None, |revision| WriteCondition::Version(revision.into())),
            command_id: self.request.clone(),
            metadata: Metadata::new(),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Order id
    pub(crate) id: OrderId,
    /// Customer id
    #[arg(long, value_name = "ID")]
    customer: CustomerId,
    /// Destination country
    #[arg(long)]
    country: Option<Country>,
    /// Destination city
    #[arg(long)]
    city: Option<City>,
    /// Order line; repeat for each line
    #[arg(long = "line", value_name = "PRODUCT:QUANTITY:PRICE[:DISCOUNT]", required = true)]
    lines: Vec<Line>,
    #[command(flatten)]
    pub(crate) options: CommandArgs,
}

impl PlaceArgs {
    /// Returns the command.
    pub(crate) fn command(&self) -> Result<Place, OrderLinesError> {
        Ok(Place {
            customer: self.customer.clone(),
            destination: Destination { city: self.city.clone(), country: self.country.clone() },
            lines: OrderLines::new(self.lines.iter().map(|Line(line)| line.clone()).collect())?,
        })
    }
}

/// An order line in the format of `--line`.
#[derive(Debug, Clone)]
struct Line(OrderLine);

impl FromStr for Line {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parts: Vec<&str> = text.split(':').collect();
        let (product, quantity, unit_price, discount) = match *parts.as_slice() {
            [product, quantity, price] => (product, quantity, price, Discount::NONE),
            [product, quantity, price, discount] => (product, quantity, price, discount.parse()?),
            _ => return Err(Invalid::new("PRODUCT:QUANTITY:PRICE or PRODUCT:QUANTITY:PRICE:DISCOUNT", text)),
        };
        let (product, quantity, unit_price) = (product.parse()?, quantity.parse()?, unit_price.parse()?);
        Ok(Self(OrderLine { product, unit_price, quantity, discount }))
    }
}

#[derive(Debug, Args)]
pub(crate) struct StepArgs {
    /// Order id
    pub(super) id: OrderId,
    #[command(flatten)]
    pub(super) options: CommandArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// Order id
    pub(super) id: OrderId,
    /// Reason for the cancellation
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Reason,
    #[command(flatten)]
    pub(super) options: CommandArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Order id
    pub(super) id: OrderId,
    #[command(flatten)]
    pub(super) past: PastStateArgs,
}

/// A past state; at most one option.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct PastStateArgs {
    /// Show the state at this revision
    #[arg(long, value_name = "REVISION")]
    pub(super) at: Option<Revision>,
    /// Show the state at this business time: RFC 3339, or YYYY-MM-DD for the end of that day in UTC
    #[arg(long, value_name = "TIME")]
    pub(super) as_of: Option<Moment>,
    /// Show the state as recorded at this time: RFC 3339, or YYYY-MM-DD for the end of that day in UTC
    #[arg(long, value_name = "TIME")]
    pub(super) as_at: Option<Moment>,
}

#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    /// Product id
    pub(crate) id: ProductId,
    /// Display name
    #[arg(long)]
    name: ProductName,
    /// List price of one item
    #[arg(long)]
    price: Price,
    /// Initial number of items in stock
    #[arg(long, default_value_t)]
    stock: InitialStock,
    #[command(flatten)]
    pub(crate) options: CommandArgs,
}

impl RegisterArgs {
    /// Returns the command.
    pub(crate) fn command(&self) -> Register {
        Register { name: self.name.clone(), unit_price: self.price, stock: self.stock }
    }
}

#[derive(Debug, Args)]
pub(crate) struct StockArgs {
    /// Product id
    pub(super) id: ProductId,
    /// Number of items
    pub(super) quantity: Quantity,
    #[command(flatten)]
    pub(super) options: CommandArgs,
}

#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// Id of the product that the items are taken from
    pub(super) from: ProductId,
    /// Id of the product that the items are added to
    pub(super) to: ProductId,
    /// Number of items
    pub(super) quantity: Quantity,
    #[command(flatten)]
    pub(super) options: CommandArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_pass_the_checks_of_clap() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_line_has_three_or_four_parts() {
        let line = |text: &str| text.parse::<Line>().map(|Line(line)| line);
        assert_eq!(line("11:12:14.00"), line("11:12:14:0"));
        assert!(line("11:12:14.00:0.05").is_ok());
        for bad in ["", "11:12", "11:0:14", "11:12:-1", "11:12:14:2", "11:12:14:0:0", ":12:14"] {
            assert!(line(bad).is_err(), "{bad:?}");
        }
    }
}
