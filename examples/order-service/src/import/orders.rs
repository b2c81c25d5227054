//! Orders and their lines, from two files to commands. Nothing is written here: an order that is wrong in any way is
//! found before the first command.

use std::collections::HashMap;
use std::path::Path;

use es_core::Timestamp;

use super::sieve::Sieve;
use super::table::{Row, Table};
use crate::bad_input::{BadInput, Source};
use crate::domain::order::Place;
use crate::domain::{CustomerId, Destination, OrderId, OrderLine, OrderLines};
use crate::moment::Moment;

const ORDER_COLUMNS: [&str; 6] = ["order_id", "customer_id", "order_date", "shipped_date", "ship_city", "ship_country"];
const LINE_COLUMNS: [&str; 5] = ["order_id", "product_id", "unit_price", "quantity", "discount"];

/// An order as the files tell it.
#[derive(Debug)]
pub(super) struct ToldOrder {
    pub(super) source: Source,
    pub(super) id: OrderId,
    pub(super) place: Place,
    pub(super) placed_at: Timestamp,
    pub(super) shipped_at: Option<Timestamp>,
}

/// A row of the orders, and what the lines have added to it.
struct Draft {
    row: Row,
    /// `None` for a row that is wrong.
    head: Option<Head>,
    lines: Vec<OrderLine>,
}

/// What stands in a row of the orders.
struct Head {
    customer: CustomerId,
    destination: Destination,
    placed_at: Timestamp,
    shipped_at: Option<Timestamp>,
}

/// Drafts in the order of the file.
#[derive(Default)]
struct Drafts {
    in_order: Vec<(OrderId, Draft)>,
    by_id: HashMap<OrderId, usize>,
}

/// Reads both files. What is wrong goes to the sieve.
pub(super) fn read(orders: &Path, lines: &Path, sieve: &mut Sieve) -> Result<Vec<ToldOrder>, BadInput> {
    let mut drafts = read_orders(orders, sieve)?;
    read_lines(lines, &mut drafts, sieve)?;
    let mut told = Vec::with_capacity(drafts.in_order.len());
    for (id, draft) in drafts.in_order {
        if !sieve.has_rejected(&id) {
            let order = finish(id.clone(), draft, lines);
            told.extend(sieve.pass(Some(&id), order)?.flatten());
        }
    }
    Ok(told)
}

fn read_orders(path: &Path, sieve: &mut Sieve) -> Result<Drafts, BadInput> {
    let mut table = Table::open(path, &ORDER_COLUMNS)?;
    let mut drafts = Drafts::default();
    while let Some(row) = table.next()? {
        let Some(id) = sieve.pass(None, row.read::<OrderId>("order_id"))? else { continue };
        match drafts.by_id.get(&id).and_then(|index| drafts.in_order.get(*index)) {
            Some((_, first)) => sieve.pass(Some(&id), row.expect_same_as(&first.row, "order_id")).map(drop)?,
            None => {
                let head = sieve.pass(Some(&id), read_head(&row))?;
                drafts.by_id.insert(id.clone(), drafts.in_order.len());
                drafts.in_order.push((id, Draft { row, head, lines: Vec::new() }));
            }
        }
    }
    Ok(drafts)
}

fn read_head(row: &Row) -> Result<Head, BadInput> {
    row.check_length()?;
    let customer = row.read("customer_id")?;
    let placed: Moment = row.read("order_date")?;
    let shipped: Option<Moment> = row.read_optional("shipped_date")?;
    // NOTE: by days, as the domain has it: either date may be without a time.
    if let Some(shipped) = shipped.filter(|shipped| shipped.first().date_naive() < placed.first().date_naive()) {
        let expected = format!("a day not before the order date, {}", placed.first().date_naive());
        return Err(row.source.bad("shipped_date", expected, shipped.first().date_naive().to_string()));
    }
    let destination =
        Destination { city: row.read_optional("ship_city")?, country: row.read_optional("ship_country")? };
    Ok(Head { customer, destination, placed_at: placed.first(), shipped_at: shipped.map(Moment::first) })
}

fn read_lines(path: &Path, drafts: &mut Drafts, sieve: &mut Sieve) -> Result<(), BadInput> {
    let mut table = Table::open(path, &LINE_COLUMNS)?;
    while let Some(row) = table.next()? {
        let Some(id) = sieve.pass(None, row.read::<OrderId>("order_id"))? else { continue };
        let draft = drafts.by_id.get(&id).and_then(|index| drafts.in_order.get_mut(*index));
        let Some((_, draft)) = draft else {
            let bad = row.source.bad("order_id", "the id of an order in the orders file", format!("{:?}", id.as_str()));
            sieve.reject(Some(&id), bad)?;
            continue;
        };
        draft.lines.extend(sieve.pass(Some(&id), read_line(&row))?);
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
    match line.revenue() {
        Ok(_) => Ok(line),
        Err(_) => Err(row.source.bad(
            "unit_price",
            "unit price × quantity × (1 − discount) to be exact in 28 digits",
            format!("{} × {} × (1 − {})", line.unit_price, line.quantity, line.discount),
        )),
    }
}

/// An order of its row and its lines. Every draft without a head is rejected by now.
fn finish(id: OrderId, draft: Draft, lines_file: &Path) -> Result<Option<ToldOrder>, BadInput> {
    let Draft { row, head, lines } = draft;
    let Some(Head { customer, destination, placed_at, shipped_at }) = head else { return Ok(None) };
    let count = lines.len();
    let lines = OrderLines::new(lines).map_err(|error| {
        let expected = format!("1 to {} lines of order {id} in {}", OrderLines::MOST, lines_file.display());
        let found = if (1..=OrderLines::MOST).contains(&count) { error.to_string() } else { format!("{count} lines") };
        row.source.bad("order_id", expected, found)
    })?;
    let place = Place { customer, destination, lines };
    Ok(Some(ToldOrder { source: row.source, id, place, placed_at, shipped_at }))
}
