//! Case 26: a price over HTTP was read by another grammar than the same text on the command line and in a CSV file.
//!
//! Each property sends one text through every door: the command line, CSV files, a request, and a stored event. All
//! doors accept it as the same value, or all refuse it.

use clap::Parser;
use es_core::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::orders::PlaceBody;
use super::products::RegisterBody;
use crate::cli::args::{Cli, Command, PlaceArgs, ProductCommand, RegisterArgs, ShopCommand};
use crate::domain::order::{Place, check_date};
use crate::domain::product::Register;
use crate::domain::{OrderEvent, OrderId, OrderLine, ProductEvent, ProductId};
use crate::import::{Files, Plan};

/// The texts of an order with one line.
#[derive(Debug, Clone)]
struct Texts {
    id: String,
    customer: String,
    city: String,
    product: String,
    price: String,
    quantity: String,
    discount: String,
    date: String,
}

type Placed = Option<(OrderId, Place, Timestamp)>;

impl Texts {
    fn valid() -> Self {
        let [id, customer, city, product] = ["A-1", "V", "Graz", "11"].map(ToOwned::to_owned);
        let [price, quantity, discount, date] = ["14.00", "12", "0.05", "2016-07-04"].map(ToOwned::to_owned);
        Self { id, customer, city, product, price, quantity, discount, date }
    }

    fn command_line(&self) -> Placed {
        let Self { id, customer, city, product, price, quantity, discount, date } = self;
        let (customer, city) = (format!("--customer={customer}"), format!("--city={city}"));
        let (line, date) = (format!("--line={product}:{quantity}:{price}:{discount}"), format!("--date={date}"));
        let args = ["order-service", "place", &customer, &city, &line, &date, "--", id];
        let Command::OnShop(ShopCommand::Place(args)) = Cli::try_parse_from(args).ok()?.command else { return None };
        let PlaceArgs { ref id, ref options, .. } = args;
        accepted(id.clone(), args.command().ok()?, options.options().occurred_at?)
    }

    fn request(&self) -> Placed {
        let Self { id, customer, city, product, price, quantity, discount, date } = self;
        // A quantity is a number of JSON.
        let quantity: Value = serde_json::from_str(quantity).ok()?;
        let line = json!({"product_id": product, "unit_price": price, "quantity": quantity, "discount": discount});
        let body = json!({"customer_id": customer, "ship_city": city, "lines": [line], "date": date});
        let body: PlaceBody = serde_json::from_value(body).ok()?;
        let placed_at = body.date?.start();
        accepted(serde_json::from_value(json!(id)).ok()?, body.command().ok()?, placed_at)
    }

    fn files(&self) -> Placed {
        let Self { id, customer, city, product, price, quantity, discount, date } = self;
        let columns = ["order_id", "customer_id", "order_date", "shipped_date", "ship_city", "ship_country"];
        let orders = csv(&columns, &[id, customer, date, "", city, ""]);
        let columns = ["order_id", "product_id", "unit_price", "quantity", "discount"];
        let lines = csv(&columns, &[id, product, price, quantity, discount]);
        Plan::read(&Files { orders: orders.path().into(), lines: lines.path().into(), products: None }, false)
            .ok()?
            .places()
            .pop()
    }

    /// Returns the lines of a stored event, which may exceed the limits of a new order.
    fn event(&self) -> Option<Vec<OrderLine>> {
        let Self { customer, product, price, quantity, discount, .. } = self;
        let quantity: Value = serde_json::from_str(quantity).ok()?;
        let line = json!({"product": product, "unit_price": price, "quantity": quantity, "discount": discount});
        let event = json!({"Placed": {"customer": customer, "destination": {}, "lines": [line]}});
        match serde_json::from_value(event).ok()? {
            OrderEvent::Placed { lines, .. } => Some(lines.into()),
            _ => None,
        }
    }

    /// Checks that all doors agree.
    fn check(&self) {
        let expected = self.command_line();
        assert_eq!(self.request(), expected, "command line and request: {self:?}");
        assert_eq!(self.files(), expected, "command line and CSV file: {self:?}");
        if let Some((_, place, _)) = expected {
            assert_eq!(self.event().as_deref(), Some(place.lines.as_slice()), "command line and event: {self:?}");
        }
    }
}

/// Returns an order that satisfies the limits of new orders. `decide` checks them for every door.
fn accepted(id: OrderId, place: Place, placed_at: Timestamp) -> Placed {
    let fits = check_date(placed_at).is_ok() && place.lines.as_slice().iter().all(|line| line.check_limits().is_ok());
    fits.then_some((id, place, placed_at))
}

fn csv<const N: usize>(header: &[&str; N], row: &[&str; N]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("create a temporary file");
    let mut csv = csv::Writer::from_writer(file.as_file());
    csv.write_record(header).and_then(|()| csv.write_record(row)).expect("write a row");
    csv.flush().expect("write the file");
    drop(csv);
    file
}

/// The texts of a product.
#[derive(Debug)]
struct ProductTexts {
    id: String,
    name: String,
    price: String,
    stock: String,
}

type Registered = Option<(ProductId, Register)>;

impl ProductTexts {
    fn command_line(&self) -> Registered {
        let Self { id, name, price, stock } = self;
        let (name, price, stock) = (format!("--name={name}"), format!("--price={price}"), format!("--stock={stock}"));
        let cli =
            Cli::try_parse_from(["order-service", "product", "register", &name, &price, &stock, "--", id]).ok()?;
        let Command::OnShop(ShopCommand::Product(ProductCommand::Register(args))) = cli.command else { return None };
        let RegisterArgs { ref id, .. } = args;
        new_product(id.clone(), args.command())
    }

    fn request(&self) -> Registered {
        let Self { id, name, price, stock } = self;
        let stock: Value = serde_json::from_str(stock).ok()?;
        let body = json!({"name": name, "unit_price": price, "stock": stock});
        let body: RegisterBody = serde_json::from_value(body).ok()?;
        new_product(serde_json::from_value(json!(id)).ok()?, body.command())
    }

    fn files(&self) -> Registered {
        let Self { id, name, price, stock } = self;
        let products = csv(&["product_id", "name", "unit_price", "units_in_stock"], &[id, name, price, stock]);
        let columns = ["order_id", "customer_id", "order_date", "shipped_date", "ship_city", "ship_country"];
        let orders = csv(&columns, &["1", "V", "2016-07-04", "", "", ""]);
        let columns = ["order_id", "product_id", "unit_price", "quantity", "discount"];
        let lines = csv(&columns, &["1", "11", "1", "1", "0"]);
        let products = Some(products.path().into());
        let files = Files { orders: orders.path().into(), lines: lines.path().into(), products };
        // The temporary files are deleted when they are dropped.
        Plan::read(&files, false).ok()?.registrations().pop()
    }

    fn check(&self) {
        let expected = self.command_line();
        assert_eq!(self.request(), expected, "command line and request: {self:?}");
        if let Some((_, Register { name, unit_price, stock })) = &expected {
            let event = json!({"Registered": {"name": name, "unit_price": unit_price, "stock": stock}});
            let event: ProductEvent = serde_json::from_value(event).expect("a stored event is readable");
            let (name, unit_price, stock) = (name.clone(), *unit_price, *stock);
            assert_eq!(event, ProductEvent::Registered { name, unit_price, stock });
        }
        assert_eq!(self.files(), expected, "command line and CSV file: {self:?}");
    }
}

fn new_product(id: ProductId, register: Register) -> Registered {
    let fits = register.unit_price.check_limit().is_ok() && register.stock.check_limit().is_ok();
    fits.then_some((id, register))
}

/// Numbers, almost numbers, and other texts. A line of the command line separates its parts by colons.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[0-9]{1,11}",
        3 => "-?[0-9]{1,10}\\.[0-9]{0,4}",
        2 => "[0-9]{0,16}\\.[0-9]{0,30}",
        2 => "[-+_.,eE0-9]{0,8}",
        1 => "[ 0-9]{0,4}",
        1 => "[^:\\p{C}]{0,4}",
    ]
}

/// Numbers as JSON has them, and almost such numbers.
fn whole_number() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[0-9]{1,11}", 2 => "[-+_.eE0-9]{1,6}", 1 => Just("4294967296".to_owned())]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[A-Za-z0-9-]{0,8}", "[^:\\p{C}]{0,8}", "[^:\\p{C}]{199,201}", "[a\n\t\u{9b}é \"',=]{0,6}"]
}

fn date() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[0-9]{4}-[01][0-9]-[0-3][0-9]",
        2 => "20[0-9]{2}-0[1-9]-[0-2][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,9})?(Z|z|[+-][0-2][0-9]:00)",
        1 => "[-0-9:TZ ]{0,20}",
    ]
}

proptest! {
    #[test]
    fn every_door_has_one_grammar_for_money(price in number(), discount in number()) {
        Texts { price: price.clone(), ..Texts::valid() }.check();
        Texts { discount, ..Texts::valid() }.check();
        ProductTexts { id: "11".into(), name: "Tofu".into(), price, stock: "5".into() }.check();
    }

    #[test]
    fn every_door_has_one_grammar_for_quantities(quantity in whole_number()) {
        Texts { quantity: quantity.clone(), ..Texts::valid() }.check();
        ProductTexts { id: "11".into(), name: "Tofu".into(), price: "1".into(), stock: quantity }.check();
    }

    #[test]
    fn every_door_has_one_grammar_for_names_and_dates(name in name(), date in date()) {
        Texts { id: name.clone(), ..Texts::valid() }.check();
        Texts { customer: name.clone(), ..Texts::valid() }.check();
        Texts { product: name.clone(), ..Texts::valid() }.check();
        ProductTexts { id: name.clone(), name, price: "1".into(), stock: "0".into() }.check();
        Texts { date, ..Texts::valid() }.check();
    }
}

/// The bodies of the case, and values at the limits.
#[test]
fn every_door_refuses_what_one_refuses() {
    assert!(Texts::valid().command_line().is_some());
    let prices = ["0.12345678901234567890123456789", "1_000", "1e3", "1000000000.01", "-1", "+1", " 1", "1,5", ""];
    for price in prices {
        let texts = Texts { price: price.to_owned(), ..Texts::valid() };
        texts.check();
        assert_eq!(texts.request(), None, "{price:?}");
    }
    for quantity in ["0", "1000001", "01", "+1", "1.0", "1e3", "-1"] {
        let texts = Texts { quantity: quantity.to_owned(), ..Texts::valid() };
        texts.check();
        assert_eq!(texts.request(), None, "{quantity:?}");
    }
    for (date, is_accepted) in [("9016-07-04", false), ("0016-07-04", false), ("2199-12-31T23:59:59Z", true)] {
        let texts = Texts { date: date.to_owned(), ..Texts::valid() };
        texts.check();
        assert_eq!(texts.request().is_some(), is_accepted, "{date}");
    }
    // A quantity is a number and a price is a text, so that no digit is lost.
    let body = |price: Value, quantity: Value| {
        let line = json!({"product_id": "11", "unit_price": price, "quantity": quantity});
        serde_json::from_value::<PlaceBody>(json!({"customer_id": "V", "lines": [line]})).is_ok()
    };
    assert!(body(json!("14"), json!(1)));
    assert!(!body(json!(14), json!(1)) && !body(json!(14.5), json!(1)) && !body(json!("14"), json!("1")));
}
