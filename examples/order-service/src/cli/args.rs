//! What can be asked on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use es_core::{CommandId, Revision};

use crate::domain::order::Place;
use crate::domain::product::Register;
use crate::domain::{
    City, Country, CustomerId, Destination, Discount, Invalid, OrderId, OrderLine, OrderLines, OrderLinesError, Price,
    ProductId, ProductName, Quantity, Reason,
};
use crate::import::Files;
use crate::moment::Moment;
use crate::shop::Terms;

/// A small order service: orders and products as events in a directory.
///
/// Exit codes: 0 done, 1 not done (the message says why), 2 not understood, 3 somebody else was faster.
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
pub(super) struct Cli {
    /// The directory of the store. `import`, `place`, `product register` and `serve` create it
    #[arg(long, value_name = "DIR", env = "ORDER_SERVICE_DATA", global = true, display_order = 100)]
    data: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true, display_order = 101)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

impl Cli {
    /// The directory of the store; ends the process where none is given.
    pub(super) fn data(&self) -> PathBuf {
        // NOTE: clap cannot have an argument both required and allowed behind the command.
        self.data.clone().unwrap_or_else(|| {
            let message = "expected the directory of the store, found none; give --data DIR or set ORDER_SERVICE_DATA";
            usage_error(ErrorKind::MissingRequiredArgument, message)
        })
    }
}

/// Ends the process with a message about how it was called.
fn usage_error(kind: ErrorKind, message: &str) -> ! {
    Cli::command().error(kind, message).exit()
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Import orders, their lines and products from CSV files
    ///
    /// Columns: order_id, customer_id, order_date, shipped_date, ship_city, ship_country of the orders; order_id,
    /// product_id, unit_price, quantity, discount of the lines; product_id, name, unit_price, units_in_stock of the
    /// products; others are ignored. Dates are YYYY-MM-DD or RFC 3339. Each order is placed at its order date, and approved
    /// and shipped at its shipped date where it has one. The orders are history: they do not touch the stock.
    ///
    /// Importing again changes nothing, and an import that was killed goes on where it stopped. Without --skip-bad,
    /// nothing is written when any row is bad, and an order that the store has with other content ends the import.
    #[command(after_help = "\
Examples:
  order-service --data shop import --orders orders.csv --lines order_lines.csv --products products.csv
  order-service --data shop import --orders orders.csv --lines order_lines.csv --skip-bad rejected.csv")]
    Import(ImportArgs),
    /// Answer requests over HTTP until the process is asked to end (Ctrl-C or SIGTERM)
    ///
    /// Commands and queries are JSON; `GET /events` sends what happens as it happens. The store is created where there is
    /// none. Requests in hand are finished before the process ends.
    #[command(after_help = "\
Requests:
  PUT  /orders/ID, /products/ID                  places an order, registers a product
  POST /orders/ID/approve | ship | deliver | cancel
  POST /products/ID/receive | withdraw | move
  GET  /orders/ID, /orders/ID/events, /products/ID
  GET  /orders?customer=C&limit=N&after=NEXT     orders, those placed last first
  GET  /products?at_most=N                       products, those with the lowest stock first
  GET  /demand, /revenue, /report
  GET  /events?after=P&category=C&type=T         what happens, from a position on and live
  GET  /projections, /projections/NAME/parked; POST /projections/NAME
  GET  /health
With If-Match: \"V\" a command counts only at version V, an ETag; with Idempotency-Key it counts once. Its answer has
ES-Position; a question with at_least=POSITION waits until its answer shows that.

Examples:
  order-service --data shop serve
  order-service --data shop serve --listen 127.0.0.1:0
  curl -X PUT localhost:8080/orders/A-1 -H 'content-type: application/json' \\
       -d '{\"customer_id\":\"VINET\",\"lines\":[{\"product_id\":\"11\",\"unit_price\":\"14.00\",\"quantity\":12}]}'
  curl -X POST localhost:8080/orders/A-1/approve -H 'if-match: \"0\"'
  curl -N 'localhost:8080/events?after=0'")]
    Serve {
        /// The address to listen on; port 0 for any that is free
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
    },
    /// Show how far the read models are, and act on what keeps them up to date
    ///
    /// Without --url the store is opened here and the projections run until they have caught up; the service must not run
    /// beside it. With --url the running service is asked.
    #[command(after_help = "\
Examples:
  order-service --data shop projections list
  order-service projections --url http://localhost:8080 pause sales --reason \"the numbers look wrong\"
  order-service projections --url http://localhost:8080 rebuild sales
  order-service --data shop projections parked sales
  order-service --data shop projections retry sales order-A-1
  order-service --data shop projections skip sales order-A-1 17 --reason \"placed by mistake\"")]
    Projections {
        #[command(flatten)]
        at: Where,
        #[command(subcommand)]
        command: ProjectionCommand,
    },
    /// Watch the read models catch up: progress, lag and remaining time
    ///
    /// Without --url the projections run here until they have caught up. With --url the running service is watched until
    /// Ctrl-C.
    #[command(after_help = "\
Examples:
  order-service --data shop watch
  order-service watch --url http://localhost:8080")]
    Watch {
        #[command(flatten)]
        at: Where,
    },
    #[command(flatten)]
    OnShop(ShopCommand),
}

/// What is asked of a shop that is open.
#[derive(Debug, Subcommand)]
pub(super) enum ShopCommand {
    /// Place an order
    #[command(after_help = "\
Examples:
  order-service --data shop place A-1 --customer VINET --line 11:12:14.00 --line 42:10:9.80:0.05
  order-service --data shop place A-1 --customer VINET --country France --city Reims --line 11:12:14.00 --date 2016-07-04")]
    Place(PlaceArgs),
    /// Approve an order that was placed
    #[command(after_help = "Example:\n  order-service --data shop approve A-1 --expect 0")]
    Approve(StepArgs),
    /// Ship an order that was approved
    #[command(after_help = "Example:\n  order-service --data shop ship A-1 --date 2016-07-16")]
    Ship(StepArgs),
    /// Deliver an order that was shipped
    #[command(after_help = "Example:\n  order-service --data shop deliver A-1")]
    Deliver(StepArgs),
    /// Cancel an order that was not shipped yet
    #[command(after_help = "Example:\n  order-service --data shop cancel A-1 --reason \"ordered twice by mistake\"")]
    Cancel(CancelArgs),
    /// Show an order as it is, or as it was
    #[command(after_help = "\
Examples:
  order-service --data shop show A-1
  order-service --data shop show A-1 --at 0
  order-service --data shop show A-1 --as-of 2016-07-10")]
    Show(ShowArgs),
    /// Show everything that has happened to an order
    #[command(after_help = "Example:\n  order-service --data shop history A-1 --json")]
    History {
        /// The order
        id: OrderId,
    },
    /// Show what all orders come to
    ///
    /// It is read from the read models, which are brought up to date first.
    #[command(after_help = "\
Examples:
  order-service --data shop report --json
  order-service --data shop report --verify")]
    Report {
        /// Fold the whole log as well, compare, and fail where the read models say anything else
        #[arg(long)]
        verify: bool,
    },
    /// Register products, and receive, withdraw and move stock
    #[command(subcommand)]
    Product(ProductCommand),
}

/// Where the projections run.
#[derive(Debug, Args)]
pub(super) struct Where {
    /// The address of a running service
    #[arg(long, value_name = "URL", env = "ORDER_SERVICE_URL")]
    pub(super) url: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ProjectionCommand {
    /// Show how far each of them is
    List,
    /// Let one stand still, also through restarts
    Pause(WhyArgs),
    /// Let a paused one go on
    Resume(WhyArgs),
    /// Build a view anew beside the old one, which is read until the new one has caught up
    Rebuild(WhyArgs),
    /// Empty a view and build it anew, for all to see
    Reset(WhyArgs),
    /// Show what could not be applied
    Parked {
        /// The projection
        name: String,
    },
    /// Try the parked events of a key again
    Retry {
        /// The projection
        name: String,
        /// The key, as `parked` shows it
        key: String,
    },
    /// Skip the event that stopped a key, for good
    Skip {
        /// The projection
        name: String,
        /// The key, as `parked` shows it
        key: String,
        /// The position of the event, as `parked` shows it
        position: u64,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// The projection
    pub(super) name: String,
    /// Why; it is recorded
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(super) reason: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum ProductCommand {
    /// Register a product
    #[command(
        after_help = "Example:\n  order-service --data shop product register 11 --name Tofu --price 23.25 --stock 35"
    )]
    Register(RegisterArgs),
    /// Receive pieces into stock
    #[command(after_help = "Example:\n  order-service --data shop product receive 11 30")]
    Receive(StockArgs),
    /// Withdraw pieces from stock
    #[command(after_help = "Example:\n  order-service --data shop product withdraw 11 12")]
    Withdraw(StockArgs),
    /// Move pieces from the stock of one product to that of another, in one commit
    #[command(after_help = "Example:\n  order-service --data shop product move 11 42 5")]
    Move(MoveArgs),
    /// Show a product
    #[command(after_help = "Example:\n  order-service --data shop product show 11")]
    Show {
        /// The product
        id: ProductId,
    },
    /// Show all products
    #[command(after_help = "Example:\n  order-service --data shop product list --json")]
    List,
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The CSV file of the orders
    #[arg(long, value_name = "F")]
    orders: PathBuf,
    /// The CSV file of the order lines
    #[arg(long, value_name = "F")]
    lines: PathBuf,
    /// The CSV file of the products
    #[arg(long, value_name = "F")]
    products: Option<PathBuf>,
    /// Leave bad orders out, import the rest, and list what was left out in this CSV file, which is replaced
    #[arg(long, value_name = "F")]
    pub(super) skip_bad: Option<PathBuf>,
    /// Say on standard error of each order that it is done, as soon as it is on disk
    #[arg(long, short)]
    pub(super) verbose: bool,
}

impl ImportArgs {
    /// The files to import. Ends the process where one of them would be overwritten.
    pub(super) fn files(&self) -> Files {
        let files = Files { orders: self.orders.clone(), lines: self.lines.clone(), products: self.products.clone() };
        let inputs = [Some(&files.orders), Some(&files.lines), files.products.as_ref()];
        if self.skip_bad.as_ref().is_some_and(|list| inputs.contains(&Some(list))) {
            let message = "expected a file of its own behind --skip-bad, found one that is to be imported";
            usage_error(ErrorKind::ArgumentConflict, message);
        }
        files
    }
}

/// How a command is to be executed.
#[derive(Debug, Args)]
pub(super) struct How {
    /// When it happens: YYYY-MM-DD (the beginning of that day in UTC) or RFC 3339; without it, now
    #[arg(long, value_name = "TIME")]
    date: Option<Moment>,
    /// Only if the last event has this revision, of the product that is named first where there are two; otherwise exit code 3
    #[arg(long, value_name = "REVISION")]
    expect: Option<u64>,
    /// At most once under this id: given again, it answers with the first result
    #[arg(long, value_name = "ID")]
    request: Option<CommandId>,
}

impl How {
    pub(super) fn terms(&self) -> Terms {
        Terms {
            occurred_at: self.date.map(Moment::first),
            expected: self.expect.map(|revision| Revision::new(revision).into()),
            request: self.request.clone(),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct PlaceArgs {
    /// What the order is called from now on
    pub(super) id: OrderId,
    /// Who wants it
    #[arg(long, value_name = "ID")]
    customer: CustomerId,
    /// The country that it goes to
    #[arg(long)]
    country: Option<Country>,
    /// The city that it goes to
    #[arg(long)]
    city: Option<City>,
    /// A product on it; give one for each
    #[arg(long = "line", value_name = "PRODUCT:QUANTITY:PRICE[:DISCOUNT]", required = true)]
    lines: Vec<Line>,
    #[command(flatten)]
    pub(super) how: How,
}

impl PlaceArgs {
    /// The command.
    pub(super) fn command(&self) -> Result<Place, OrderLinesError> {
        Ok(Place {
            customer: self.customer.clone(),
            destination: Destination { city: self.city.clone(), country: self.country.clone() },
            lines: OrderLines::new(self.lines.iter().map(|Line(line)| line.clone()).collect())?,
        })
    }
}

/// A line of an order as it is typed.
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
pub(super) struct StepArgs {
    /// The order
    pub(super) id: OrderId,
    #[command(flatten)]
    pub(super) how: How,
}

#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    /// The order
    pub(super) id: OrderId,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Reason,
    #[command(flatten)]
    pub(super) how: How,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The order
    pub(super) id: OrderId,
    #[command(flatten)]
    pub(super) when: When,
}

/// Which past state; at most one.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct When {
    /// As it was at this revision
    #[arg(long, value_name = "REVISION")]
    pub(super) at: Option<u64>,
    /// As it was in the business at this time, as far as is known today: RFC 3339, or YYYY-MM-DD for the end of that day
    /// in UTC
    #[arg(long, value_name = "TIME")]
    pub(super) as_of: Option<Moment>,
    /// As this store knew it at this time: RFC 3339, or YYYY-MM-DD for the end of that day in UTC
    #[arg(long, value_name = "TIME")]
    pub(super) as_at: Option<Moment>,
}

#[derive(Debug, Args)]
pub(super) struct RegisterArgs {
    /// What the product is called in lists from now on
    pub(super) id: ProductId,
    /// What people call it
    #[arg(long)]
    name: ProductName,
    /// What one piece costs
    #[arg(long)]
    price: Price,
    /// How many pieces there are to begin with
    #[arg(long, default_value_t = 0)]
    stock: u32,
    #[command(flatten)]
    pub(super) how: How,
}

impl RegisterArgs {
    /// The command.
    pub(super) fn command(&self) -> Register {
        Register { name: self.name.clone(), unit_price: self.price, stock: self.stock }
    }
}

#[derive(Debug, Args)]
pub(super) struct StockArgs {
    /// The product
    pub(super) id: ProductId,
    /// How many pieces
    pub(super) quantity: Quantity,
    #[command(flatten)]
    pub(super) how: How,
}

#[derive(Debug, Args)]
pub(super) struct MoveArgs {
    /// The product that the pieces are taken from
    pub(super) from: ProductId,
    /// The product that they are added to
    pub(super) to: ProductId,
    /// How many pieces
    pub(super) quantity: Quantity,
    #[command(flatten)]
    pub(super) how: How,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declaration_is_sound() {
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
