//! What a check of a store asks of directories, and what is damage there.

use std::path::Path;

use super::{Description, OpenError, names_in, read_identity};
use crate::disk::Disk;
use crate::findings::Findings;

/// Which store a directory holds. None if that is damaged, for then nothing else of it can be checked.
///
/// # Errors
/// [`OpenError`] if there is no store, a later version has made it, or it cannot be looked at.
pub(crate) fn checked_identity(
    disk: &dyn Disk,
    root: &Path,
    found: &mut Findings,
) -> Result<Option<Description>, OpenError> {
    match read_identity(disk, root) {
        Ok(description) => Ok(Some(description)),
        Err(error @ OpenError::Damaged { .. }) => {
            found.add(error.to_string());
            found.note("without it nothing else can be checked".to_owned());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The names in a directory of a store, in order.
///
/// # Errors
/// If the disk cannot be asked.
pub(crate) fn checked_names(
    disk: &dyn Disk,
    dir: &Path,
    found: &mut Findings,
) -> Result<Vec<String>, OpenError> {
    let names = names_in(disk, dir)?;
    if names.is_none() {
        found.add(format!("{} is missing", dir.display()));
    }
    let mut names = names.unwrap_or_default();
    names.sort();
    Ok(names)
}
