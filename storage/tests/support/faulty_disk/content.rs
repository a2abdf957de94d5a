//! What stands in a file of the faulty disk: what its process sees, and what the medium has of it.

use std::collections::BTreeMap;

use fastrand::Rng;

/// What a disk writes wholly or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// A file's bytes.
#[derive(Clone, Default)]
pub(super) struct Content {
    /// What reads and maps show.
    current: Vec<u8>,
    /// What the last successful syncs have put on the medium.
    durable: Vec<u8>,
    /// What was changed since and may still be lost, in order.
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Content {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.current
    }

    pub(super) fn len(&self) -> usize {
        self.current.len()
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return; // Such a write does not even extend the file.
        }
        put(&mut self.current, offset, bytes);
        self.unsynced.push(Change::Write {
            offset,
            bytes: bytes.to_vec(),
        });
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.current.resize(len, 0);
        self.unsynced.push(Change::SetLen(len));
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            match change {
                Change::Write { offset, bytes } => put(&mut self.durable, offset, &bytes),
                Change::SetLen(len) => self.durable.resize(len, 0),
            }
        }
    }

    /// What a failed sync leaves: nothing counts as changed any more, and the medium has nothing of it.
    pub(super) fn forget_changes(&mut self) {
        self.unsynced.clear();
    }

    /// Flips one bit, also on the medium as far as that byte has come there.
    pub(super) fn flip(&mut self, offset: usize, mask: u8) {
        self.current[offset] ^= mask;
        if let Some(byte) = self.durable.get_mut(offset) {
            *byte ^= mask;
        }
        for change in &mut self.unsynced {
            if let Change::Write { offset: at, bytes } = change
                && let Some(byte) = offset.checked_sub(*at).and_then(|index| bytes.get_mut(index))
            {
                *byte ^= mask;
            }
        }
    }

    /// What the medium has after the power is gone: of each sector one of the states that it went through since
    /// the last sync, and of the lengths that were set any or none.
    pub(super) fn lose_power(&mut self, rng: &mut Rng) {
        let mut written = BTreeMap::<usize, usize>::new();
        for change in &self.unsynced {
            if let Change::Write { offset, bytes } = change {
                for (sector, _) in sectors(*offset, bytes) {
                    *written.entry(sector).or_default() += 1;
                }
            }
        }
        // How many writes to each sector have reached the medium. A later one never does without those before it,
        // for what is put there is the page, with all that was written to it.
        let mut kept = written;
        for count in kept.values_mut() {
            *count = rng.usize(0..=*count);
        }
        for change in self.unsynced.drain(..) {
            match change {
                Change::SetLen(len) if rng.bool() => self.durable.resize(len, 0),
                Change::SetLen(_) => {}
                Change::Write { offset, bytes } => {
                    for (sector, part) in sectors(offset, &bytes) {
                        let left = kept.get_mut(&sector).expect("each sector was counted");
                        if *left > 0 {
                            *left -= 1;
                            put(&mut self.durable, offset.max(sector * SECTOR_BYTES), part);
                        }
                    }
                }
            }
        }
        self.current = self.durable.clone();
    }
}

/// The parts of a write by the number of the sector that they go to.
fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let (mut at, mut left) = (offset, bytes);
    std::iter::from_fn(move || {
        let count = (SECTOR_BYTES - at % SECTOR_BYTES).min(left.len());
        let (part, rest) = left.split_at_checked(count).filter(|_| count > 0)?;
        let sector = at / SECTOR_BYTES;
        (at, left) = (at + count, rest);
        Some((sector, part))
    })
}

/// The beginning of a write that was interrupted after any number of sectors, none and all included.
pub(super) fn torn<'a>(rng: &mut Rng, offset: usize, bytes: &'a [u8]) -> &'a [u8] {
    let kept = rng.usize(0..=sectors(offset, bytes).count());
    let len = sectors(offset, bytes)
        .take(kept)
        .map(|(_, part)| part.len())
        .sum();
    &bytes[..len]
}

/// The beginning of a write as far as whole sectors of it end at `end` or before.
pub(super) fn fitting(offset: usize, bytes: &[u8], end: usize) -> &[u8] {
    let whole = sectors(offset, bytes)
        .scan(offset, |at, (_, part)| {
            *at += part.len();
            (*at <= end).then_some(part.len())
        })
        .sum();
    &bytes[..whole]
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}
