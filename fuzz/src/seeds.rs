//! Writes the inputs that a target begins with: `seeds records|keys|lines|imports|frames|log-records DIRECTORY`.

use std::path::Path;

use es_decoding::seeds::{Target, seeds};

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (target, dir) = match arguments.as_slice() {
        [target, dir] if target == "records" => (Target::Records, dir),
        [target, dir] if target == "keys" => (Target::Keys, dir),
        [target, dir] if target == "lines" => (Target::Lines, dir),
        [target, dir] if target == "imports" => (Target::Imports, dir),
        [target, dir] if target == "frames" => (Target::Frames, dir),
        [target, dir] if target == "log-records" => (Target::LogRecords, dir),
        _ => {
            let message =
                format!("expected records|keys|lines|imports|frames|log-records DIRECTORY, found {arguments:?}");
            return Err(std::io::Error::other(message));
        }
    };
    std::fs::create_dir_all(dir)?;
    for (number, seed) in (1..).zip(seeds(target)) {
        std::fs::write(Path::new(dir).join(format!("seed-{number:03}")), seed)?;
    }
    Ok(())
}
