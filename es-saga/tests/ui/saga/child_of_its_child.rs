use es_saga::saga;

saga! {
    saga Order(order: u64) {
        child Packing(order);
    }
}

saga! {
    saga Packing(order: u64) {
        child Order(order);
    }
}

fn main() {}
