//! Compresses catch-up answers of text and JSON for clients that accept it.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HeaderMap};

use crate::limits::ReadShare;

/// Below this many bytes an answer is not worth compressing.
pub(crate) const BYTES_MIN: usize = 1024;
/// Up to this many bytes are compressed on the spot; more are handed to a thread that may take its time.
const ON_THE_SPOT_BYTES_MAX: usize = 16 * 1024;
const ZSTD_LEVEL: i32 = 3;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Gzip,
    Zstd,
}

impl Encoding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The coding that a client prefers; zstd if it likes both alike.
    pub(crate) fn negotiate(request: &HeaderMap) -> Option<Self> {
        let mut best: Option<(Self, u16)> = None;
        for value in request.get_all(ACCEPT_ENCODING) {
            for item in value.to_str().unwrap_or_default().split(',') {
                let (name, weight) = weighted(item);
                let encoding = match name {
                    _ if name.eq_ignore_ascii_case("zstd") => Self::Zstd,
                    _ if name.eq_ignore_ascii_case("gzip") => Self::Gzip,
                    _ => continue,
                };
                let better = best.is_none_or(|(known, known_weight)| {
                    weight > known_weight || (weight == known_weight && known == Self::Gzip)
                });
                if weight > 0 && better {
                    best = Some((encoding, weight));
                }
            }
        }
        best.map(|(encoding, _)| encoding)
    }

    /// The compressed form of all pieces together; none if that fails, and the answer goes out as it is. What it takes
    /// is taken by reads, also if nobody waits for it any more.
    pub(crate) async fn compress(self, pieces: Vec<Bytes>, share: &Arc<ReadShare>) -> Option<Bytes> {
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        let compressed = if bytes <= ON_THE_SPOT_BYTES_MAX {
            self.compress_now(&pieces)
        } else {
            let share = Arc::clone(share);
            let compressing = tokio::task::spawn_blocking(move || {
                let since = Instant::now();
                let compressed = self.compress_now(&pieces);
                share.settle_beside(since.elapsed());
                compressed
            });
            compressing.await.ok()?
        };
        compressed
            .inspect_err(|error| tracing::warn!(%error, "an answer could not be compressed"))
            .ok()
    }

    fn compress_now(self, pieces: &[Bytes]) -> std::io::Result<Bytes> {
        match self {
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                pieces.iter().try_for_each(|piece| encoder.write_all(piece))?;
                Ok(encoder.finish()?.into())
            }
            Self::Zstd => {
                let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                pieces.iter().try_for_each(|piece| encoder.write_all(piece))?;
                Ok(encoder.finish()?.into())
            }
        }
    }
}

/// A coding's name and its weight in thousandths.
fn weighted(item: &str) -> (&str, u16) {
    let mut parts = item.split(';');
    let name = parts.next().unwrap_or_default().trim();
    let weight = parts.find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case("q")
            .then(|| value.trim().parse::<f32>().unwrap_or(0.0))
    });
    (name, (weight.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::ReadShareConfig;
    use futures_util::FutureExt as _;
    use http::HeaderValue;
    use std::time::Duration;

    fn negotiated(accepts: &'static str) -> Option<Encoding> {
        let mut request = HeaderMap::new();
        request.insert(ACCEPT_ENCODING, HeaderValue::from_static(accepts));
        Encoding::negotiate(&request)
    }

    #[tokio::test]
    async fn what_is_compressed_beside_the_connection_is_paid_for_though_nobody_waits_for_it() {
        let share = Arc::new(ReadShare::new(ReadShareConfig {
            percent: 50,
            threads: 1,
            wait_max: Duration::ZERO,
        }));
        let pieces = vec![Bytes::from(vec![b'x'; ON_THE_SPOT_BYTES_MAX]); 2];
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let before_ns = share.taken_ns();
            let compressed = encoding.compress(pieces.clone(), &share).await;
            assert!(compressed.is_some_and(|bytes| bytes.len() < ON_THE_SPOT_BYTES_MAX));
            let done_ns = share.taken_ns();
            assert!(done_ns > before_ns);
            // Looked at once, and given up.
            let _ = encoding.compress(pieces.clone(), &share).now_or_never();
            let deadline = Instant::now() + Duration::from_secs(60);
            while share.taken_ns() == done_ns {
                assert!(Instant::now() < deadline, "it is never settled");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    #[test]
    fn the_clients_preference_counts_and_zstd_wins_a_tie() {
        assert_eq!(negotiated("gzip, deflate, br, zstd"), Some(Encoding::Zstd));
        assert_eq!(negotiated("zstd;q=0.5, gzip"), Some(Encoding::Gzip));
        assert_eq!(negotiated("GZIP;q=0.1"), Some(Encoding::Gzip));
        assert_eq!(negotiated("gzip;q=0, identity"), None);
        assert_eq!(negotiated("br"), None);
        assert_eq!(Encoding::negotiate(&HeaderMap::new()), None);
    }
}
