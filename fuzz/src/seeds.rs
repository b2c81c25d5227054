//! Writes the inputs that a target begins with: `seeds TARGET DIRECTORY`.

use std::path::Path;

use es_decoding::seeds::{Target, seeds};

const TARGETS: [(&str, Target); 7] = [
    ("lines", Target::Lines),
    ("imports", Target::Imports),
    ("frames", Target::Frames),
    ("log-records", Target::LogRecords),
    ("log-segments", Target::Segments),
    ("replication-frames", Target::WireFrames),
    ("replication-sessions", Target::Sessions),
];

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, dir] = arguments.as_slice() else {
        return Err(std::io::Error::other(format!("expected TARGET DIRECTORY, found {arguments:?}")));
    };
    let Some((_, target)) = TARGETS.iter().find(|(known, _)| known == name) else {
        let known = TARGETS.map(|(name, _)| name).join(", ");
        return Err(std::io::Error::other(format!("expected a target ({known}), found {name:?}")));
    };
    std::fs::create_dir_all(dir)?;
    for (number, seed) in (1..).zip(seeds(*target)) {
        std::fs::write(Path::new(dir).join(format!("seed-{number:03}")), seed)?;
    }
    Ok(())
}
