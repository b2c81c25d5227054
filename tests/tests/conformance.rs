//! The conformance suite on RocksDB. The memory store runs it in es-core.

use es_rocksdb::RocksDbStore;
use es_tests::stores::DiskHarness;

es_core::conformance_tests!(DiskHarness::<RocksDbStore>::default());
