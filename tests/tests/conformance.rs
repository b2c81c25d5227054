//! The conformance suite on RocksDB. The memory store runs it in es-core.

use es_tests::stores::RocksDbHarness;

es_core::conformance_tests!(RocksDbHarness::default());
