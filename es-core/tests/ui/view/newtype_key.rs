// A newtype as the key of a view needs `view_key!`.
use es_core::projection::view::View;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ProductId(u32);

const DEMAND: View<ProductId, u64> = View::new("demand");

fn main() {
    let _ = DEMAND.name();
}
