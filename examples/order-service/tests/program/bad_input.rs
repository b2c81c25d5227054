//! Imports of invalid files: the messages, and that nothing is written.

use std::fs;

use serde_json::json;

use crate::sample::{LINES, ORDERS, import, replaced, sample, sample_with};
use crate::support::TestDir;

const DATE: &str = "a date (YYYY-MM-DD) or a time (RFC 3339, 2016-07-04T09:30:00Z)";
const PRICE: &str = "a price: a decimal number of at least 0, exact in 28 digits";
const QUANTITY: &str = "a quantity: a whole number from 1 to 4294967295";
const DISCOUNT: &str = "a discount: a decimal number from 0 to 1, exact in 28 digits";
const ONE_COLUMN: &str = "one column of this name";
const UNIQUE_OR_LINE_2: &str = "a unique id, or the same content as in line 2";

/// A replacement in a file of the sample, and the error that it causes.
struct Case {
    file: &'static str,
    old: &'static str,
    new: &'static str,
    location: &'static str,
    expected: &'static str,
    found: &'static str,
}

const fn orders(
    (old, new): (&'static str, &'static str),
    location: &'static str,
    expected: &'static str,
    found: &'static str,
) -> Case {
    Case { file: "orders.csv", old, new, location, expected, found }
}

const fn lines(
    change: (&'static str, &'static str),
    location: &'static str,
    expected: &'static str,
    found: &'static str,
) -> Case {
    Case { file: "lines.csv", ..orders(change, location, expected, found) }
}

const fn products(
    change: (&'static str, &'static str),
    location: &'static str,
    expected: &'static str,
    found: &'static str,
) -> Case {
    Case { file: "products.csv", ..orders(change, location, expected, found) }
}

const CASES: [Case; 26] = [
    orders(
        ("order_date", "date"),
        "orders.csv, line 1, column order_date",
        ONE_COLUMN,
        "the columns order_id, customer_id, employee_id, date, required_date, shipped_date, ship_via, freight, \
         ship_city, ship_country",
    ),
    lines(
        ("quantity", "discount"),
        "lines.csv, line 1, column quantity",
        ONE_COLUMN,
        "the columns order_id, product_id, unit_price, discount, discount",
    ),
    products(("name,", "name,name,"), "products.csv, line 1, column name", ONE_COLUMN, "2 columns of this name"),
    orders(("2024-03-04", "2024-13-04"), "orders.csv, line 2, column order_date", DATE, "\"2024-13-04\""),
    orders(("2024-03-04", ""), "orders.csv, line 2, column order_date", DATE, "\"\""),
    orders(("2024-03-07", "March 7"), "orders.csv, line 2, column shipped_date", DATE, "\"March 7\""),
    orders(
        ("2024-03-07", "2024-03-03"),
        "orders.csv, line 2, column shipped_date",
        "a date not before the order date, 2024-03-04",
        "2024-03-03",
    ),
    orders(
        ("QUAYSIDE", ""),
        "orders.csv, line 3, column customer_id",
        "a customer id of 1 to 200 bytes without control characters",
        "\"\"",
    ),
    orders(
        ("A-3", ""),
        "orders.csv, line 4, column order_id",
        "an order id of 1 to 200 bytes without control characters",
        "\"\"",
    ),
    orders((",Germany", ""), "orders.csv, line 4, column ship_country", "10 cells", "9 cells"),
    orders(("Norway", "Norway,x"), "orders.csv, line 2, column ship_country", "10 cells", "11 cells"),
    orders(("A-3,", "A-1,"), "orders.csv, line 4, column order_id", UNIQUE_OR_LINE_2, "\"A-1\" with different content"),
    lines(("4.50", "4.5.0"), "lines.csv, line 2, column unit_price", PRICE, "\"4.5.0\""),
    lines(("4.50", "-4.50"), "lines.csv, line 2, column unit_price", PRICE, "\"-4.50\""),
    lines(("4.50", "4e2"), "lines.csv, line 2, column unit_price", PRICE, "\"4e2\""),
    lines((",12,", ",0,"), "lines.csv, line 2, column quantity", QUANTITY, "\"0\""),
    lines((",12,", ",-12,"), "lines.csv, line 2, column quantity", QUANTITY, "\"-12\""),
    lines((",12,", ",a dozen,"), "lines.csv, line 2, column quantity", QUANTITY, "\"a dozen\""),
    lines(("0.05", "1.05"), "lines.csv, line 3, column discount", DISCOUNT, "\"1.05\""),
    lines(("0.05", "-0.05"), "lines.csv, line 3, column discount", DISCOUNT, "\"-0.05\""),
    lines(
        ("4.50", "0.9999999999999999999999999999"),
        "lines.csv, line 2, column unit_price",
        "unit price × quantity × (1 − discount) to be exact in 28 digits",
        "0.9999999999999999999999999999 × 12 × (1 − 0)",
    ),
    lines(("A-3", "A-4"), "lines.csv, line 5, column order_id", "the id of an order in the orders file", "\"A-4\""),
    lines(
        ("A-2,P-11,3.20,20,0.0\n", ""),
        "orders.csv, line 3, column order_id",
        "1 to 10000 lines of order A-2 in lines.csv",
        "0 lines",
    ),
    products(
        ("320", "-1"),
        "products.csv, line 2, column units_in_stock",
        "a stock: a whole number from 0 to 4294967295",
        "\"-1\"",
    ),
    products(
        ("Juniper tea", ""),
        "products.csv, line 2, column name",
        "a product name of 1 to 200 bytes without control characters",
        "\"\"",
    ),
    products(
        ("P-11", "P-10"),
        "products.csv, line 3, column product_id",
        UNIQUE_OR_LINE_2,
        "\"P-10\" with different content",
    ),
];

#[test]
fn an_invalid_cell_is_reported_with_its_location_and_nothing_is_written() {
    for Case { file, old, new, location, expected, found } in CASES {
        let dir = sample_with(file, replaced(old, new));
        dir.refused(&import(&[]), 1, &format!("error: {location}: expected {expected}, found {found}"));
        assert!(!dir.path("shop").exists(), "{location}");
    }
}

#[test]
fn a_file_without_a_valid_header_is_an_error_with_and_without_skip_bad() {
    let not_utf8 = |text: &str| [b"\xff", text.as_bytes()].concat();
    let cases: [(&str, TestDir); 4] = [
        (
            "orders.csv: expected a header with order_id, customer_id, order_date, shipped_date, ship_city, \
             ship_country, found an empty file",
            sample_with("orders.csv", |_| Vec::new()),
        ),
        (
            "lines.csv: expected a header with order_id, product_id, unit_price, quantity, discount, \
             found an empty file",
            sample_with("lines.csv", |_| b"\n\n".to_vec()),
        ),
        (
            "orders.csv, line 1: expected column names in UTF-8, found the bytes \\xfforder_id",
            sample_with("orders.csv", not_utf8),
        ),
        (
            "lines.csv, line 1, column discount: expected one column of this name, found the columns order_id, \
             product_id, unit_price, quantity",
            sample_with("lines.csv", replaced(",discount", "")),
        ),
    ];
    for (expected, dir) in cases {
        for options in [&[][..], &["--skip-bad", "bad.csv"]] {
            dir.refused(&import(options), 1, &format!("error: {expected}"));
            assert!(!dir.path("shop").exists() && !dir.path("bad.csv").exists());
        }
    }
}

#[test]
fn a_missing_file_or_a_directory_is_an_error_with_its_name() {
    let dir = sample();
    fs::remove_file(dir.path("lines.csv")).unwrap();
    for _ in 0..2 {
        let ran = dir.run(&import(&[]));
        assert_eq!(ran.code, Some(1));
        assert!(ran.err.starts_with("error: lines.csv: expected a readable CSV file, found "), "{}", ran.err);
        assert!(!dir.path("shop").exists());
        let _ = fs::create_dir(dir.path("lines.csv"));
    }
}

#[test]
fn bytes_that_are_not_utf8_are_reported_with_their_location() {
    let latin1 = |text: &str| {
        let at = text.find('ø').unwrap();
        [&text.as_bytes()[..at], b"\xf8", &text.as_bytes()[at + 'ø'.len_utf8()..]].concat()
    };
    let dir = sample_with("orders.csv", latin1);
    let expected = "error: orders.csv, line 2, column ship_city: expected UTF-8, found the bytes Troms\\xf8";
    dir.refused(&import(&[]), 1, expected);
    assert!(!dir.path("shop").exists());
}

#[test]
fn bad_orders_are_skipped_and_listed() {
    let dir = sample_with("lines.csv", replaced(",12,", ",0,"));
    let invalid = "A-1,P-1,1,1,7\nA-8,P-1,1,1,0\n,P-1,1,1,0\n";
    dir.write("lines.csv", format!("{}{invalid}", fs::read_to_string(dir.path("lines.csv")).unwrap()));
    dir.write("orders.csv", format!("{ORDERS}A-9,X,1,2024-01-01,,,1,1,,\nA-3,X,1,2024-01-01,,,1,1,,\n"));
    let summary = dir.json(&import(&["--skip-bad", "bad.csv"]));
    assert_eq!((&summary["placed"], &summary["rejected"]), (&json!(1), &json!(5)));
    let expected = "\
order_id,file,line,column,expected,found
A-1,lines.csv,2,quantity,a quantity: a whole number from 1 to 4294967295,0
A-8,lines.csv,7,order_id,the id of an order in the orders file,\"\"\"A-8\"\"\"
,lines.csv,8,order_id,an order id of 1 to 200 bytes without control characters,
A-9,orders.csv,5,order_id,1 to 10000 lines of order A-9 in lines.csv,0 lines
A-3,orders.csv,6,order_id,\"a unique id, or the same content as in line 4\",\"\"\"A-3\"\" with different content\"
";
    assert_eq!(fs::read_to_string(dir.path("bad.csv")).unwrap(), expected);
    assert!(!dir.path("bad.csv.new").exists());
    let report = dir.json(&["report"]);
    assert_eq!((&report["orders"], &report["events"]), (&json!(1), &json!(3)));
    dir.refused(&["show", "A-1"], 1, "error: order A-1 does not exist; place it first");
}

#[test]
fn the_rejected_file_is_replaced_when_no_order_is_rejected() {
    let dir = sample();
    dir.write("bad.csv", "the list of an earlier import");
    dir.done(&import(&["--skip-bad", "bad.csv"]));
    let list = fs::read_to_string(dir.path("bad.csv")).unwrap();
    assert_eq!(list, "order_id,file,line,column,expected,found\n");
}

#[test]
fn the_rejected_file_cannot_overwrite_an_input_file() {
    let dir = sample();
    assert_eq!(dir.run(&import(&["--skip-bad", "lines.csv"])).code, Some(2));
    assert_eq!(fs::read_to_string(dir.path("lines.csv")).unwrap(), LINES);
    let ran = dir.run(&import(&["--skip-bad", "missing/bad.csv"]));
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.starts_with("error: could not find missing/bad.csv: "), "{}", ran.err);
    assert!(!dir.path("shop").exists());
}
