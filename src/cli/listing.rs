//! Listings that come in pages: each entry becomes a line.

use super::error::CommandError;
use super::output::Output;
use super::patience::patiently;
use crate::client::ClientError;

/// A part of a listing, and after what the next one comes; none behind the last one.
pub(super) type Page<T> = (Vec<T>, Option<String>);

/// Prints all entries, each as its `line`. `page` asks for those after a place.
pub(super) async fn print<T>(
    output: &mut Output,
    page: impl AsyncFn(Option<&str>) -> Result<Page<T>, ClientError>,
    line: impl Fn(&T) -> String,
) -> Result<(), CommandError> {
    let mut after: Option<String> = None;
    loop {
        let (entries, next) = patiently(async || page(after.as_deref()).await).await?;
        for entry in &entries {
            output.line(&line(entry))?;
        }
        output.flush()?;
        // A page that does not get further would be asked for without end.
        if next.is_none() || next == after {
            return Ok(());
        }
        after = next;
    }
}
