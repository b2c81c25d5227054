use es_saga::saga;

struct OrderPlaced;

saga! {
    saga Order(_order: OrderPlaced) {}
}

fn main() {}
