//! What copies of stores have in common: where one may be made, and why it could not be. Knows nothing of what a store
//! consists of.

use std::io;
use std::path::{Component, Path, PathBuf};

use crate::backend::BackendError;
use crate::directory::OpenError;
use crate::disk::Disk;

/// Why a store could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The copy would be a part of the original.
    #[error("{} lies within {}; choose a directory outside of it", to.display(), data_dir.display())]
    Inside {
        /// Where the copy was to be.
        to: PathBuf,
        /// The store's directory.
        data_dir: PathBuf,
    },
    /// There is something already where the copy should be.
    #[error("{} is not empty: it has {found:?}; choose a new or an empty directory", to.display())]
    NotEmpty {
        /// Where the copy was to be.
        to: PathBuf,
        /// One of the entries.
        found: String,
    },
    /// The store is being stopped.
    #[error("the store is being stopped; what was copied until now is no store: remove it")]
    Stopping,
    /// The directory cannot be used.
    #[error("{0}; what was copied until now is no store: remove it")]
    Directory(#[from] OpenError),
    /// The store or the copy cannot be read or written.
    #[error("{0}; what was copied until now is no store: remove it")]
    Backend(#[from] BackendError),
}

/// Where a copy is to be made of the store in `data_dir`, as the system sees it.
///
/// # Errors
/// If that lies within the store, or there is something already.
pub(crate) fn place_for(disk: &dyn Disk, to: &Path, data_dir: &Path) -> Result<PathBuf, BackupError> {
    let (to, data_dir) = (resolved(to), resolved(data_dir));
    if to.starts_with(&data_dir) {
        return Err(BackupError::Inside { to, data_dir });
    }
    refuse_used(disk, &to)?;
    Ok(to)
}

/// What the roots of file systems have does not count.
fn refuse_used(disk: &dyn Disk, to: &Path) -> Result<(), BackupError> {
    let names = match disk.list(to) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(OpenError::io("list", to)(error).into()),
    };
    match names.into_iter().find(|name| name != "lost+found") {
        None => Ok(()),
        Some(found) => Err(BackupError::NotEmpty {
            to: to.to_owned(),
            found,
        }),
    }
}

/// Makes a directory and those above it.
pub(crate) fn make_dir(disk: &dyn Disk, dir: &Path) -> Result<(), BackupError> {
    let made = disk.make_dir(dir);
    Ok(made.map_err(OpenError::io("make the directory", dir))?)
}

/// The path as the system sees it, as far as it leads somewhere: without links, and without steps back.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_unknown_working_directory| path.to_owned());
    let found = path.ancestors().find_map(|above| {
        let found = above.canonicalize().ok()?;
        Some((found, path.strip_prefix(above).ok()?))
    });
    let Some((mut found, rest)) = found else {
        return path;
    };
    for component in rest.components() {
        match component {
            Component::ParentDir => {
                found.pop();
            }
            component => found.push(component),
        }
    }
    found
}
