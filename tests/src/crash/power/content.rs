//! The content of a file after a power failure.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::Loss;
use super::journal::Write;
use crate::crash::Random;

/// The bytes that a disk writes as a whole. Disks have larger sectors.
const BLOCK: usize = 64;

/// Takes back a part of the writes to a file. Returns the number of bytes that differ from before.
pub(super) fn lose(path: &Path, writes: &[Write], loss: Loss, random: &mut Random) -> io::Result<u64> {
    let newest = fs::read(path)?;
    let left = match loss {
        Loss::Drop => after(newest.clone(), writes, 0),
        Loss::WriteBack if random.once_in(2) => return Ok(0),
        Loss::WriteBack => after(newest.clone(), writes, 0),
        Loss::Tear => torn(&newest, writes, random),
    };
    let changed = newest.iter().zip(&left).filter(|(newest, left)| newest != left).count();
    fs::write(path, &left)?;
    Ok((changed + newest.len().abs_diff(left.len())) as u64)
}

/// Takes back all writes after the first `count` ones.
fn after(mut content: Vec<u8>, writes: &[Write], count: usize) -> Vec<u8> {
    writes[count..].iter().rev().for_each(|write| take_back(&mut content, write));
    content
}

fn take_back(content: &mut Vec<u8>, write: &Write) {
    let as_usize = |number: u64| usize::try_from(number).expect("a small file");
    content.resize(as_usize(write.size), 0);
    let offset = as_usize(write.offset);
    if !write.old.is_empty() {
        content[offset..offset + write.old.len()].copy_from_slice(&write.old);
    }
}

/// How many blocks of a file lose writes.
#[derive(Debug, Clone, Copy)]
enum Torn {
    None,
    All,
    /// Those after a random one, and one of 16 before it.
    End,
    /// Two of three; a half of them lose all writes.
    Most,
}

fn torn(newest: &[u8], writes: &[Write], random: &mut Random) -> Vec<u8> {
    let oldest = after(newest.to_vec(), writes, 0);
    let blocks = newest.len().max(oldest.len()).div_ceil(BLOCK);
    let kind = random.pick(&[Torn::None, Torn::All, Torn::End, Torn::End, Torn::Most]);
    let end = random.below(blocks as u64 + 1);
    let all = writes.len();
    // The blocks by the number of writes that they have.
    let mut by_count: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for block in 0..blocks {
        let count = match kind {
            Torn::None => all,
            Torn::All => 0,
            Torn::End if (block as u64) < end && !random.once_in(16) => all,
            Torn::End => 0,
            Torn::Most => match random.below(3) {
                0 => all,
                1 => 0,
                _ => usize::try_from(random.below(all as u64 + 1)).expect("small"),
            },
        };
        by_count.entry(count).or_default().push(block);
    }
    let (low, high) = (newest.len().min(oldest.len()), newest.len().max(oldest.len()));
    let length = match kind {
        Torn::None => newest.len(),
        Torn::All => oldest.len(),
        Torn::End | Torn::Most => low + usize::try_from(random.below((high - low) as u64 + 1)).expect("small"),
    };
    let mut left = newest.to_vec();
    left.resize(blocks * BLOCK, 0);
    let mut content = newest.to_vec();
    for count in (0..all).rev() {
        take_back(&mut content, &writes[count]);
        for block in by_count.get(&count).into_iter().flatten() {
            // Where the file was shorter, the block has zeros.
            let place = &mut left[block * BLOCK..(block + 1) * BLOCK];
            place.fill(0);
            let old = content.get(block * BLOCK..).unwrap_or_default();
            let length = old.len().min(BLOCK);
            place[..length].copy_from_slice(&old[..length]);
        }
    }
    left.truncate(length);
    left
}
