//! What arrives through a real pair of sockets is what was stored, however the bytes were sent.

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod from_files;

use std::io::{self, IoSlice, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tailwater_storage::disk::{Disk as _, Map, RealDisk};
use tempfile::TempDir;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{ClearSocket, FROM_FILE_BYTES_MIN, kernel};
use crate::metrics::Metrics;

const PATIENCE: Duration = Duration::from_secs(60);

/// So small that a large slice is taken in many parts, between which the socket is full.
const NARROW: u32 = 4096;

/// Bytes that look like those of no other place of any file.
fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}

fn write(path: &Path, bytes: &[u8]) {
    let file = RealDisk.create(path).expect("made");
    file.write_at(0, bytes).expect("written");
}

/// A map of a file that nobody writes any more.
fn sealed(path: &Path) -> Arc<dyn Map> {
    let file = RealDisk.open_sealed(path).expect("opened");
    file.map_sealed(file.len().expect("a length")).expect("mapped")
}

fn stored(dir: &TempDir, name: &str, bytes: &[u8]) -> Arc<dyn Map> {
    let path = dir.path().join(name);
    write(&path, bytes);
    sealed(&path)
}

/// A socket, and the other end of it as one that blocks.
async fn pair() -> (ClearSocket, std::net::TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let theirs = TcpSocket::new_v4().expect("a socket");
    theirs.set_recv_buffer_size(NARROW).expect("set");
    let address: SocketAddr = listener.local_addr().expect("bound");
    let (theirs, ours) = tokio::join!(theirs.connect(address), listener.accept());
    let theirs = theirs.expect("connected").into_std().expect("a socket");
    theirs.set_nonblocking(false).expect("set");
    theirs.set_read_timeout(Some(PATIENCE)).expect("set");
    let (ours, _) = ours.expect("accepted");
    (socket(ours), theirs)
}

fn socket(stream: TcpStream) -> ClearSocket {
    ClearSocket::new(stream, Arc::new(Metrics::new(None, None)))
}

/// Writes slices as hyper does, several at a time.
async fn write_all(socket: &mut ClearSocket, pieces: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut left = slices.as_mut_slice();
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        let written =
            std::future::poll_fn(|context| Pin::new(&mut *socket).poll_write_vectored(context, left)).await?;
        assert!(written > 0, "nothing was written, and no error told");
        IoSlice::advance_slices(&mut left, written);
    }
    socket.flush().await
}

/// Everything that comes, read in pieces of odd sizes.
fn received(mut socket: std::net::TcpStream) -> io::Result<Vec<u8>> {
    let mut received = Vec::new();
    let mut buffer = [0; 3001];
    loop {
        match socket.read(&mut buffer)? {
            0 => return Ok(received),
            count => received.extend_from_slice(&buffer[..count]),
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// Sends pieces to somebody who reads slowly, and returns what arrives and how much of it came from files.
fn sent(pieces: &[Bytes]) -> (io::Result<()>, Vec<u8>, u64) {
    runtime().block_on(async {
        let (mut ours, theirs) = pair().await;
        let reader = thread::spawn(move || received(theirs));
        let written = tokio::time::timeout(PATIENCE, write_all(&mut ours, pieces))
            .await
            .expect("what the other end reads is written");
        let from_files = ours.metrics.bytes_from_files();
        drop(ours);
        let received = reader.join().expect("a reader").expect("an end");
        (written, received, from_files)
    })
}

/// A part of a file, or bytes that stand in none.
#[derive(Debug, Clone)]
enum Source {
    File { file: usize, from: usize, len: usize },
    Heap { len: usize },
}

const FILES: usize = 3;
const FILE_BYTES: usize = 300_000;

fn source() -> impl Strategy<Value = Source> {
    let part = (0..FILES, 0..FILE_BYTES, 0..FILE_BYTES).prop_map(|(file, from, len)| Source::File {
        file,
        from,
        len: len.min(FILE_BYTES - from),
    });
    prop_oneof![
        3 => part,
        1 => (0..2000_usize).prop_map(|len| Source::Heap { len }),
        1 => (0..100_000_usize).prop_map(|len| Source::Heap { len }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_time: 30_000, ..ProptestConfig::default() })]

    #[test]
    fn what_arrives_is_what_was_stored_wherever_it_stands(sources in vec(source(), 1..8)) {
        let dir = tempfile::tempdir().expect("a directory");
        let contents: Vec<_> = (0..FILES).map(|file| content(file as u64, FILE_BYTES)).collect();
        let maps: Vec<_> = contents
            .iter()
            .enumerate()
            .map(|(file, bytes)| stored(&dir, &file.to_string(), bytes))
            .collect();
        let (mut pieces, mut expected, mut long) = (Vec::new(), Vec::new(), 0);
        for source in sources {
            let before = expected.len();
            let piece = match source {
                Source::File { file, from, len } => {
                    expected.extend_from_slice(&contents[file][from..from + len]);
                    long += if len >= FROM_FILE_BYTES_MIN { len } else { 0 };
                    Arc::clone(&maps[file]).bytes(from as u64..(from + len) as u64)
                }
                Source::Heap { len } => {
                    expected.extend_from_slice(&content(9, len));
                    Bytes::copy_from_slice(&expected[before..])
                }
            };
            pieces.push(piece);
        }
        let (written, received, from_files) = sent(&pieces);
        prop_assert!(written.is_ok(), "{written:?}");
        prop_assert!(received == expected, "{} bytes came of {}", received.len(), expected.len());
        // A long slice's end may be shorter than what is sent from files, and is written then.
        let long = if kernel::SENDS_FILES { long } else { 0 };
        let least = long.saturating_sub(pieces.len() * FROM_FILE_BYTES_MIN) as u64;
        prop_assert!((least..=long as u64).contains(&from_files), "{from_files} of {long}");
    }
}

#[test]
fn what_is_in_no_sealed_file_or_short_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let bytes = content(1, FROM_FILE_BYTES_MIN);
    let path = dir.path().join("still written");
    write(&path, &bytes);
    let file = RealDisk.open(&path).expect("opened");
    let written = file.map(bytes.len() as u64).expect("mapped");
    let short = stored(&dir, "short", &bytes[1..]);
    let pieces = [
        written.bytes(0..bytes.len() as u64),
        short.bytes(0..bytes.len() as u64 - 1),
        Bytes::from(bytes.clone()),
    ];
    let (written, received, from_files) = sent(&pieces);
    written.expect("written");
    assert!(received == [&bytes[..], &bytes[1..], &bytes[..]].concat());
    assert_eq!(from_files, 0);
}
