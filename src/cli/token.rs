//! The client's bearer token: as it was given, or out of a file. Shows it to nobody.

use std::path::{Path, PathBuf};

use super::error::CommandError;

/// Why there is no token where there should be one.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    /// Both were given.
    #[error(
        "a token is given twice, by --token or TAILWATER_TOKEN and by --token-file or TAILWATER_TOKEN_FILE; leave one out"
    )]
    Twice,
    /// The file cannot be read.
    #[error("--token-file or TAILWATER_TOKEN_FILE names {}, which cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// Nothing is in it.
    #[error("--token-file or TAILWATER_TOKEN_FILE names {}, which is empty; write the token into it", path.display())]
    Empty { path: PathBuf },
}

/// The token, if there is to be one.
pub(super) fn choose(given: Option<&str>, file: Option<&Path>) -> Result<Option<String>, CommandError> {
    match (given, file) {
        (Some(_), Some(_)) => Err(TokenError::Twice.into()),
        (given, None) => Ok(given.map(str::to_owned)),
        (None, Some(path)) => Ok(Some(read(path)?)),
    }
}

fn read(path: &Path) -> Result<String, TokenError> {
    let text = std::fs::read_to_string(path).map_err(|source| TokenError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    // An editor ends the line; a token has no spaces at its ends.
    let token = text.trim();
    if token.is_empty() {
        return Err(TokenError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(token.to_owned())
}
