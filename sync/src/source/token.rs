//! The bearer token, out of a file that may change. It is shown nowhere: neither in an error nor by `Debug`.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;

/// How old the token may become before its file is read again.
const AGE_MAX: Duration = Duration::from_secs(5);
/// More than any server takes in a header.
const BYTES_MAX: u64 = 64 << 10;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFault {
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(#[from] std::io::Error),
    /// The file has nothing in it.
    #[error("it is empty; write the token into it")]
    Empty,
    /// The file has more in it than a token.
    #[error("it has more than {BYTES_MAX} bytes; write the token alone into it")]
    TooLong,
    /// The file has something else in it.
    #[error("it has characters that no token has; write the token alone into it, on one line")]
    Characters,
}

/// A token's file with what was in it last.
pub(super) struct Token {
    path: PathBuf,
    last: Mutex<Last>,
}

struct Last {
    authorization: HeaderValue,
    read_at: Instant,
}

impl Token {
    /// Reads the file for the first time.
    pub(super) fn open(path: &Path) -> Result<Self, TokenFault> {
        let last = Mutex::new(Last {
            authorization: read(path)?,
            read_at: Instant::now(),
        });
        Ok(Self {
            path: path.to_owned(),
            last,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What to send as `Authorization`. Reads the file if that is due; one that cannot be read then is an error, as
    /// the old token would be refused soon.
    pub(super) async fn authorization(&self) -> Result<HeaderValue, TokenFault> {
        {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.read_at.elapsed() < AGE_MAX {
                return Ok(last.authorization.clone());
            }
        }
        self.renew().await
    }

    /// The same, out of the file as it is now.
    pub(super) async fn renew(&self) -> Result<HeaderValue, TokenFault> {
        let path = self.path.clone();
        let authorization = tokio::task::spawn_blocking(move || read(&path))
            .await
            .map_err(|ended| TokenFault::Unreadable(std::io::Error::other(ended)))??;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Last {
            authorization: authorization.clone(),
            read_at: Instant::now(),
        };
        Ok(authorization)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<HeaderValue, TokenFault> {
    let mut text = Vec::new();
    std::fs::File::open(path)?
        .take(BYTES_MAX + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(TokenFault::TooLong);
    }
    let token = text.trim_ascii();
    if token.is_empty() {
        return Err(TokenFault::Empty);
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err(TokenFault::Characters);
    }
    let header = [b"Bearer ".as_slice(), token].concat();
    let mut header = HeaderValue::from_bytes(&header).expect("visible ASCII goes into a header");
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), content).expect("it can be written");
        file
    }

    #[tokio::test]
    async fn a_token_is_read_again_when_asked_for_and_never_shown() {
        let file = file(b"first-token\n");
        let token = Token::open(file.path()).expect("a token");
        assert_eq!(
            token.authorization().await.expect("a token"),
            "Bearer first-token"
        );
        std::fs::write(file.path(), "second-token").expect("it can be written");
        assert_eq!(token.renew().await.expect("a token"), "Bearer second-token");
        assert_eq!(
            token.authorization().await.expect("a token"),
            "Bearer second-token"
        );
        let shown = format!("{token:?} {:?}", token.authorization().await);
        assert!(!shown.contains("second-token"), "{shown}");
    }

    #[test]
    fn a_file_with_anything_but_a_token_is_refused_without_showing_it() {
        let refusal = |content: &[u8]| {
            Token::open(file(content).path())
                .expect_err("no token")
                .to_string()
        };
        assert!(refusal(b" \n").starts_with("it is empty"));
        assert!(refusal(&[b'x'; 70_000]).starts_with("it has more than 65536 bytes"));
        for content in [b"two words".as_slice(), b"two\nlines", b"caf\xc3\xa9", b"\0"] {
            let refusal = refusal(content);
            assert!(
                refusal.starts_with("it has characters that no token has"),
                "{refusal}"
            );
        }
        assert!(matches!(
            Token::open(Path::new("/no/such/file")),
            Err(TokenFault::Unreadable(_))
        ));
    }
}
