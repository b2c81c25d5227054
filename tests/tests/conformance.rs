//! The conformance suite on RocksDB: with all events of a case in memory, and with tables of eight events. The memory
//! store runs it in es-core.

use es_tests::stores::{DiskHarness, small};

mod in_memory {
    use super::*;

    es_core::conformance_tests!(DiskHarness::default());
}

mod in_tables {
    use super::*;

    es_core::conformance_tests!(DiskHarness::new(small().index_run(8, 1 << 20).tail_bytes(0)));
}
