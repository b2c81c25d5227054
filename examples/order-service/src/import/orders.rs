//! Reads orders and their lines from two files and converts them to commands. All rows are validated before the first
//! command is executed.

use std::collections::HashMap;
use std::path::Path;

use es_core::Timestamp;

use super::csv_table::{Row, Table};
use super::rejections::Rejections;
use crate::bad_input::{BadInput, RowLocation};
use crate::domain::order::{Place, check_date};
use crate::domain::{CustomerId, Destination, OrderId, OrderLine, OrderLines};
use crate::moment::Moment;

const ORDER_COLUMNS: [&str; 6] = ["order_id", "customer_id", "order_date", "shipped_date", "ship_city", "ship_country"];
const LINE_COLUMNS: [&str; 5] = ["order_id", "product_id", "unit_price", "quantity", "discount"];

/// An order that was read from the files.
#[derive(Debug)]
pub(super) struct ImportedOrder {
    pub(super) location: RowLocation,
    pub(super) id: OrderId,
    pub(super) place: Place,
    pub(super) placed_at: Timestamp,
    pub(super) shipped_at: Option<Timestamp>,
}

/// A row of the orders file with its lines so far.
struct Draft {
    row: Row,
    /// `None` if the row is invalid.
    header: Option<OrderHeader>,
    lines: Vec<OrderLine>,
}

/// The content of a row of the orders file.
struct OrderHeader {
    customer: CustomerId,
    destination: Destination,
    placed_at: Timestamp,
    shipped_at: Option<Timestamp>,
}

/// The rows of the orders file.
#[derive(Default)]
struct Drafts {
    /// The drafts in file order.
    list: Vec<(OrderId, Draft)>,
    /// Indexes into `list`.
    by_id: HashMap<OrderId, usize>,
}

/// Reads both files. Adds invalid orders to `rejections`.
pub(super) fn read(orders: &Path, lines: &Path, rejections: &mut Rejections) -> Result<Vec<ImportedOrder>, BadInput> {
    let mut drafts = read_orders(orders, rejections)?;
    read_lines(lines, &mut drafts, rejections)?;
    let mut orders = Vec::with_capacity(drafts.list.len());
    for (id, draft) in drafts.list {
        if !rejections.contains(&id) {
            let order = finish(id.clone(), draft, lines);
            orders.extend(rejections.accept(Some(&id), order)?.flatten());
        }
    }
    Ok(orders)
}

fn read_orders(path: &Path, rejections: &mut Rejections) -> Result<Drafts, BadInput> {
    let mut table = Table::open(path, &ORDER_COLUMNS)?;
    let mut drafts = Drafts::default();
    while let Some(row) = table.next()? {
        let Some(id) = rejections.accept(None, row.read::<OrderId>("order_id"))? else { continue };
        match drafts.by_id.get(&id).and_then(|index| drafts.list.get(*index)) {
            Some((_, first)) => {
                rejections.accept(Some(&id), row.expect_same_cells(&first.row, "order_id"))?;
            }
            None => {
                let header = rejections.accept(Some(&id), read_header(&row))?;
                drafts.by_id.insert(id.clone(), drafts.list.len());
                drafts.list.push((id, Draft { row, header, lines: Vec::new() }));
            }
        }
    }
    Ok(drafts)
}

fn read_header(row: &Row) -> Result<OrderHeader, BadInput> {
    row.check_length()?;
    let customer = row.read("customer_id")?;
    let placed: Moment = row.read("order_date")?;
    let shipped: Option<Moment> = row.read_optional("shipped_date")?;
    check_date(placed.start()).map_err(|invalid| row.location.invalid("order_date", invalid))?;
    if let Some(shipped) = shipped {
        check_date(shipped.start()).map_err(|invalid| row.location.invalid("shipped_date", invalid))?;
    }
    // Compare days, as the domain does: either date may have no time of day.
    if let Some(shipped) = shipped.filter(|shipped| shipped.start().date_naive() < placed.start().date_naive()) {
        let expected = format!("a date not before the order date, {}", placed.start().date_naive());
        return Err(row.location.bad_input("shipped_date", expected, shipped.start().date_naive().to_string()));
    }
    let destination =
        Destination { city: row.read_optional("ship_city")?, country: row.read_optional("ship_country")? };
    Ok(OrderHeader { customer, destination, placed_at: placed.start(), shipped_at: shipped.map(Moment::start) })
}

fn read_lines(path: &Path, drafts: &mut Drafts, rejections: &mut Rejections) -> Result<(), BadInput> {
    let mut table = Table::open(path, &LINE_COLUMNS)?;
    while let Some(row) = table.next()? {
        let Some(id) = rejections.accept(None, row.read::<OrderId>("order_id"))? else { continue };
        let draft = drafts.by_id.get(&id).and_then(|index| drafts.list.get_mut(*index));
        let Some((_, draft)) = draft else {
            let (expected, found) = ("the id of an order in the orders file", format!("{:?}", id.as_str()));
            rejections.reject(Some(&id), row.location.bad_input("order_id", expected, found))?;
            continue;
        };
        draft.lines.extend(rejections.accept(Some(&id), read_line(&row))?);
    }
    Ok(())
}

fn read_line(row: &Row) -> Result<OrderLine, BadInput> {
    row.check_length()?;
    let line = OrderLine {
        product: row.read("product_id")?,
        unit_price: row.read("unit_price")?,
        quantity: row.read("quantity")?,
        discount: row.read("discount")?,
    };
    line.unit_price.check_limit().map_err(|invalid| row.location.invalid("unit_price", invalid))?;
    line.quantity.check_limit().map_err(|invalid| row.location.invalid("quantity", invalid))?;
    match line.revenue() {
        Ok(_) => Ok(line),
        Err(_) => Err(row.location.bad_input(
            "unit_price",
            "unit price × quantity × (1 − discount) to be exact in 28 digits",
            format!("{} × {} × (1 − {})", line.unit_price, line.quantity, line.discount),
        )),
    }
}

/// Creates an order from its row and its lines. Returns `None` for an invalid row, which is rejected already.
fn finish(id: OrderId, draft: Draft, lines_file: &Path) -> Result<Option<ImportedOrder>, BadInput> {
    let Draft { row, header, lines } = draft;
    let Some(OrderHeader { customer, destination, placed_at, shipped_at }) = header else { return Ok(None) };
    let count = lines.len();
    let lines = OrderLines::new(lines).map_err(|error| {
        let expected = format!("1 to {} lines of order {id} in {}", OrderLines::MAX, lines_file.display());
        let found = if (1..=OrderLines::MAX).contains(&count) { error.to_string() } else { format!("{count} lines") };
        row.location.bad_input("order_id", expected, found)
    })?;
    let place = Place { customer, destination, lines };
    Ok(Some(ImportedOrder { location: row.location, id, place, placed_at, shipped_at }))
}
