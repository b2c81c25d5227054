//! A small sample with the difficulties of real exports: accents, a comma in a name, an order that was not shipped, and
//! a discount with the digits of a floating-point number.

use crate::support::TestDir;

/// Three orders; `A-2` was not shipped.
pub(crate) const ORDERS: &str = "\
order_id,customer_id,employee_id,order_date,required_date,shipped_date,ship_via,freight,ship_city,ship_country
A-1,MORLAND,1,2024-03-04,2024-04-01,2024-03-07,1,12.40,Tromsø,Norway
A-2,QUAYSIDE,2,2024-03-05T09:30:00+01:00,2024-04-02,,2,8.15,\"Galway, West\",Ireland
A-3,BIRKENHOF,1,2024-04-11,2024-04-08,2024-04-11,3,31.00,Köln,Germany
";
pub(crate) const LINES: &str = "\
order_id,product_id,unit_price,quantity,discount
A-1,P-10,4.50,12,0
A-1,P-12,6.75,6,0.05
A-2,P-11,3.20,20,0.0
A-3,P-13,2.40,60,0.15000000596046448
";
pub(crate) const PRODUCTS: &str = "\
product_id,name,unit_price,units_in_stock,units_on_order,reorder_level,discontinued
P-10,Juniper tea,4.50,320,0,40,0
P-11,\"Oat biscuits, salted\",3.20,180,60,50,0
";

const FILES: [&str; 6] = ["--orders", "orders.csv", "--lines", "lines.csv", "--products", "products.csv"];

/// Returns the arguments of an import of the sample with additional options.
pub(crate) fn import(options: &[&'static str]) -> Vec<&'static str> {
    [&["import"], &FILES[..], options].concat()
}

/// Creates a directory with the sample, with `change` applied to one of its files.
pub(crate) fn sample_with(file: &str, change: impl Fn(&str) -> Vec<u8>) -> TestDir {
    let dir = TestDir::new();
    for (name, text) in [("orders.csv", ORDERS), ("lines.csv", LINES), ("products.csv", PRODUCTS)] {
        dir.write(name, if name == file { change(text) } else { text.into() });
    }
    dir
}

/// Creates a directory with the sample.
pub(crate) fn sample() -> TestDir {
    sample_with("", |text| text.into())
}

/// Returns a change that replaces the first occurrence of `old`.
pub(crate) fn replaced(old: &'static str, new: &'static str) -> impl Fn(&str) -> Vec<u8> {
    move |text| {
        assert!(text.contains(old), "{old:?} is not in the sample");
        text.replacen(old, new, 1).into_bytes()
    }
}
