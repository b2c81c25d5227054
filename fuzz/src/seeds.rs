//! Writes the inputs that a target begins with: `seeds records|keys|lines|imports FOLDER`.

use std::path::Path;

use es_decoding::seeds::{Target, seeds};

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (target, folder) = match arguments.as_slice() {
        [target, folder] if target == "records" => (Target::Records, folder),
        [target, folder] if target == "keys" => (Target::Keys, folder),
        [target, folder] if target == "lines" => (Target::Lines, folder),
        [target, folder] if target == "imports" => (Target::Imports, folder),
        _ => return Err(std::io::Error::other(format!("expected records|keys|lines|imports FOLDER, found {arguments:?}"))),
    };
    std::fs::create_dir_all(folder)?;
    for (number, seed) in (1..).zip(seeds(target)) {
        std::fs::write(Path::new(folder).join(format!("seed-{number:03}")), seed)?;
    }
    Ok(())
}
