//! Products, from their file to commands.

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;

use super::sieve::Sieve;
use super::table::{Row, Table};
use crate::bad_input::{BadInput, Source};
use crate::domain::product::Register;
use crate::domain::{Invalid, ProductId};

const COLUMNS: [&str; 4] = ["product_id", "name", "unit_price", "units_in_stock"];

/// A product as the file tells it.
#[derive(Debug)]
pub(super) struct ToldProduct {
    pub(super) source: Source,
    pub(super) id: ProductId,
    pub(super) register: Register,
}

/// Pieces in stock: none or more.
struct Stock(u32);

impl FromStr for Stock {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let expected = "a number in stock: a whole number from 0 to 4294967295";
        text.parse().map(Self).map_err(|_| Invalid::new(expected, text))
    }
}

/// Reads the file. What is wrong goes to the sieve.
pub(super) fn read(path: &Path, sieve: &mut Sieve) -> Result<Vec<ToldProduct>, BadInput> {
    let mut table = Table::open(path, &COLUMNS)?;
    let mut told = Vec::new();
    let mut seen = HashMap::new();
    while let Some(row) = table.next()? {
        let Some(product) = sieve.pass(None, read_product(&row))? else { continue };
        match seen.get(&product.id) {
            None => {
                seen.insert(product.id.clone(), row);
                told.push(product);
            }
            Some(first) => sieve.pass(None, row.expect_same_as(first, "product_id")).map(drop)?,
        }
    }
    Ok(told)
}

fn read_product(row: &Row) -> Result<ToldProduct, BadInput> {
    row.check_length()?;
    let id = row.read("product_id")?;
    let Stock(stock) = row.read("units_in_stock")?;
    let register = Register { name: row.read("name")?, unit_price: row.read("unit_price")?, stock };
    Ok(ToldProduct { source: row.source.clone(), id, register })
}
