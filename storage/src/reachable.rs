//! Whose bytes can still be read: by the stream itself, and by the forks that inherit them.

use tailwater_stream::{Position, StreamId, StreamState};

/// The oldest position in `storage` that any stream which is not released can still read. `forks_of` tells direct
/// forks, deleted ones included until they are released; `state_of` tells what is left of a stream, if anything.
pub(crate) fn oldest_reachable<E>(
    storage: StreamId,
    forks_of: impl Fn(StreamId) -> Result<Vec<StreamId>, E>,
    state_of: impl Fn(StreamId) -> Result<Option<StreamState>, E>,
) -> Result<Position, E> {
    let mut oldest = Position::LAST;
    let mut readers = vec![storage];
    while let Some(reader) = readers.pop() {
        readers.extend(forks_of(reader)?);
        let Some(state) = state_of(reader)?.filter(|state| !state.deleted) else {
            continue;
        };
        let spans = state.lineage.spans();
        let ends = spans[1..].iter().map(|next| next.from).chain([state.tail]);
        let mut in_storage = spans
            .iter()
            .zip(ends)
            .filter(|(span, _)| span.stored_in == storage);
        if reader == storage || in_storage.any(|(_, end)| state.oldest < end) {
            oldest = oldest.min(state.oldest);
        }
    }
    Ok(oldest)
}
