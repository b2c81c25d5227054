//! Reads products from a file and converts them to commands.

use std::collections::HashMap;
use std::path::Path;

use super::csv_table::{Row, Table};
use super::rejections::Rejections;
use crate::bad_input::{BadInput, RowLocation};
use crate::domain::product::Register;
use crate::domain::{InitialStock, Price, ProductId};

const COLUMNS: [&str; 4] = ["product_id", "name", "unit_price", "units_in_stock"];

/// A product that was read from the file.
#[derive(Debug)]
pub(super) struct ImportedProduct {
    pub(super) location: RowLocation,
    pub(super) id: ProductId,
    pub(super) register: Register,
}

/// Reads the file. Adds invalid rows to `rejections`.
pub(super) fn read(path: &Path, rejections: &mut Rejections) -> Result<Vec<ImportedProduct>, BadInput> {
    let mut table = Table::open(path, &COLUMNS)?;
    let mut products = Vec::new();
    let mut first_rows = HashMap::new();
    while let Some(row) = table.next()? {
        let Some(product) = rejections.accept(None, read_product(&row))? else { continue };
        match first_rows.get(&product.id) {
            None => {
                first_rows.insert(product.id.clone(), row);
                products.push(product);
            }
            Some(first) => rejections.accept(None, row.expect_same_cells(first, "product_id")).map(drop)?,
        }
    }
    Ok(products)
}

fn read_product(row: &Row) -> Result<ImportedProduct, BadInput> {
    row.check_length()?;
    let id = row.read("product_id")?;
    let stock: InitialStock = row.read("units_in_stock")?;
    let unit_price: Price = row.read("unit_price")?;
    stock.check_limit().map_err(|invalid| row.location.invalid("units_in_stock", invalid))?;
    unit_price.check_limit().map_err(|invalid| row.location.invalid("unit_price", invalid))?;
    let register = Register { name: row.read("name")?, unit_price, stock };
    Ok(ImportedProduct { location: row.location.clone(), id, register })
}
