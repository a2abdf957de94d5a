//! What the end of a stream's lines says of them, for who writes it and who checks it.

/// Counts the lines of one stream.
#[derive(Debug, Default)]
pub(super) struct Tally {
    crc: crc32fast::Hasher,
    appends: u64,
    bytes: u64,
}

impl Tally {
    /// Adds a line, without or with the line break that ends it.
    pub(super) fn line(&mut self, line: &[u8]) {
        self.crc.update(line.strip_suffix(b"\n").unwrap_or(line));
        self.crc.update(b"\n");
    }

    /// Adds an append of so many bytes.
    pub(super) fn append(&mut self, bytes: usize) {
        self.appends += 1;
        self.bytes += bytes as u64;
    }

    /// How many appends there are.
    pub(super) fn appends(&self) -> u64 {
        self.appends
    }

    /// How many bytes they have, as they were appended.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The checksum of the lines, as it is written.
    pub(super) fn crc32(&self) -> String {
        format!("{:08x}", self.crc.clone().finalize())
    }
}
