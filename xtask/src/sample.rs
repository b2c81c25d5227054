//! The sample of the demo: orders, order lines and products of a fictional shop.
//!
//! It has the difficulties of real exports: orders that have not been shipped, discounts, accents, a discontinued
//! product, a comma in a name.

use std::fs;
use std::path::Path;

use crate::failure::Failure;

const PRODUCTS: &str = "\
product_id,name,unit_price,units_in_stock,units_on_order,reorder_level,discontinued
P-10,Juniper tea,4.50,320,0,40,0
P-11,\"Oat biscuits, salted\",3.20,180,60,50,0
P-12,Smoked plum jam,6.75,95,0,20,0
P-13,Rye crispbread,2.40,410,0,80,0
P-14,Elderflower vinegar,8.90,35,0,0,1
";

const ORDERS: &str = "\
order_id,customer_id,employee_id,order_date,required_date,shipped_date,ship_via,freight,ship_city,ship_country
A-1001,MORLAND,1,2024-03-04,2024-04-01,2024-03-07,1,12.40,Tromsø,Norway
A-1002,QUAYSIDE,2,2024-03-05,2024-04-02,2024-03-08,2,8.15,Galway,Ireland
A-1003,BIRKENHOF,1,2024-03-11,2024-04-08,2024-03-18,3,31.00,Köln,Germany
A-1004,VELADA,3,2024-03-12,2024-03-26,2024-03-14,1,5.60,Málaga,Spain
A-1005,MORLAND,2,2024-03-19,2024-04-16,2024-03-25,1,18.75,Tromsø,Norway
A-1006,PONTALTO,3,2024-03-27,2024-04-24,2024-04-02,2,44.20,São Paulo,Brazil
A-1007,QUAYSIDE,1,2024-04-02,2024-04-30,2024-04-05,3,7.90,Galway,Ireland
A-1008,LINDGREN,2,2024-04-08,2024-05-06,2024-04-15,2,22.35,Örebro,Sweden
A-1009,BIRKENHOF,1,2024-04-15,2024-05-13,,1,27.80,Köln,Germany
A-1010,VELADA,3,2024-04-17,2024-05-15,,3,9.45,Málaga,Spain
A-1011,LINDGREN,2,2024-04-22,2024-05-20,,2,16.05,Örebro,Sweden
A-1012,PONTALTO,1,2024-04-24,2024-05-22,,1,38.50,São Paulo,Brazil
";

const LINES: &str = "\
order_id,product_id,unit_price,quantity,discount
A-1001,P-10,4.50,12,0
A-1001,P-12,6.75,6,0.05
A-1002,P-11,3.20,20,0
A-1003,P-13,2.40,60,0.15
A-1003,P-10,4.50,24,0.15
A-1003,P-14,8.90,10,0
A-1004,P-12,6.75,4,0
A-1005,P-10,4.50,18,0.1
A-1005,P-13,2.40,30,0
A-1006,P-11,3.20,40,0.2
A-1006,P-12,6.75,15,0.2
A-1007,P-13,2.40,25,0
A-1008,P-10,4.50,10,0
A-1008,P-14,8.90,5,0.05
A-1009,P-13,2.40,50,0.15
A-1009,P-11,3.20,30,0
A-1010,P-12,6.75,8,0
A-1010,P-10,4.50,6,0.05
A-1011,P-11,3.20,16,0
A-1012,P-10,4.50,36,0.25
A-1012,P-13,2.40,45,0
";

/// The names and contents of the files.
pub(crate) const FILES: [(&str, &str); 3] = [("orders.csv", ORDERS), ("lines.csv", LINES), ("products.csv", PRODUCTS)];

/// Writes the files into the directory.
pub(crate) fn write(directory: &Path) -> Result<(), Failure> {
    for (name, text) in FILES {
        let file = directory.join(name);
        fs::write(&file, text).map_err(|error| Failure::io("write", &file, &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the fields of each row, without the comma in the quoted name.
    fn rows(text: &str) -> Vec<Vec<String>> {
        let rows = text.lines().skip(1).map(|line| line.replace(", salted", ""));
        rows.map(|line| line.split(',').map(str::to_owned).collect()).collect()
    }

    fn column(text: &str, index: usize) -> Vec<String> {
        rows(text).into_iter().filter_map(|row| row.into_iter().nth(index)).collect()
    }

    #[test]
    fn every_row_has_as_many_fields_as_its_header() {
        for (name, text) in FILES {
            let width = text.lines().next().map_or(0, |header| header.split(',').count());
            for row in rows(text) {
                assert_eq!(row.len(), width, "{name}: {row:?}");
            }
        }
    }

    #[test]
    fn each_line_belongs_to_an_order_and_names_a_product() {
        let (orders, products) = (column(ORDERS, 0), column(PRODUCTS, 0));
        assert!(column(LINES, 0).iter().all(|order| orders.contains(order)));
        assert!(column(LINES, 1).iter().all(|product| products.contains(product)));
        assert!(orders.iter().all(|order| column(LINES, 0).contains(order)));
    }

    #[test]
    fn the_sample_has_the_difficulties_of_real_exports() {
        assert_eq!(rows(ORDERS).len(), 12);
        assert_eq!(rows(PRODUCTS).len(), 5);
        assert_eq!(column(ORDERS, 5).iter().filter(|shipped| shipped.is_empty()).count(), 4);
        assert!(!ORDERS.is_ascii());
        assert!(column(LINES, 4).iter().any(|discount| discount != "0"));
    }
}
