//! Sets `cfg(shuttle)`, so that the sources of es-log use shuttle's threads and locks.
#![allow(clippy::print_stdout, reason = "a build script passes instructions to cargo on the standard output")]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=shuttle");
}
