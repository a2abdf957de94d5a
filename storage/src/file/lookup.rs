//! Answers questions about streams from the catalog and the generations of changes over it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use tailwater_stream::{StreamId, StreamName, StreamState, Timestamp};

use super::catalog::StreamRow;
use super::overlay::{Delta, renewed};
use super::store::{Sight, Store};
use crate::backend::{BackendError, ControlsRequest, ListRequest, Usage};
use crate::reachable::oldest_reachable;
use crate::stream_tables::deadline;

/// Catalog rows looked at in one go.
const PAGE_ROWS: usize = 1024;
/// Control keys looked at in one go at the least.
const CONTROLS_MIN: usize = 64;

/// Control keys and their values; none for those that were removed.
type Controls = BTreeMap<Bytes, Option<Bytes>>;

/// The last key of those that were told, if there may be more than was asked for.
fn last_of_full<V>(told: &[(Bytes, V)], page: &ControlsRequest<'_>) -> Option<Bytes> {
    let last = told.last().filter(|_| told.len() == page.count_max);
    last.map(|(key, _)| key.clone())
}

impl Sight {
    /// What is known of a stream, its producers included; none if there is none or it is released.
    pub(super) fn row(&self, id: StreamId, era: u64) -> Result<Option<StreamRow>, BackendError> {
        Ok(self.over(id, self.catalog.row(id)?, era))
    }

    /// Likewise without the producers that the catalog knows, which costs less.
    fn head(&self, id: StreamId, era: u64) -> Result<Option<StreamRow>, BackendError> {
        Ok(self.over(id, self.catalog.head(id)?, era))
    }

    fn over(&self, id: StreamId, mut row: Option<StreamRow>, era: u64) -> Option<StreamRow> {
        for overlay in self.overlays() {
            overlay.with(id, |delta| delta.apply_to(&mut row, era));
        }
        row
    }

    pub(super) fn id_of(&self, name: &StreamName) -> Result<Option<StreamId>, BackendError> {
        let newest = self.overlays().rev().find_map(|overlay| overlay.id_of(name));
        newest.map_or_else(|| self.catalog.id_of(name), |id| Ok(Some(id)))
    }

    fn is_released(&self, id: StreamId) -> bool {
        self.overlays().any(|overlay| overlay.is_released(id))
    }

    pub(super) fn forks_of(&self, source: StreamId) -> Result<Vec<StreamId>, BackendError> {
        let mut forks = self.catalog.forks_of(source)?;
        for overlay in self.overlays() {
            forks.extend(overlay.forks_of(source));
        }
        forks.sort_unstable();
        forks.dedup();
        forks.retain(|fork| !self.is_released(*fork));
        Ok(forks)
    }

    /// The control keys of a page, with those that were removed, and up to which key those are all; none if they are all
    /// that there are.
    fn controls(
        &self,
        id: StreamId,
        page: &ControlsRequest<'_>,
    ) -> Result<(Controls, Option<Bytes>), BackendError> {
        let stored = self.catalog.controls(id, page)?;
        let mut lasts: Vec<_> = last_of_full(&stored, page).into_iter().collect();
        let mut controls: BTreeMap<_, _> = stored
            .into_iter()
            .map(|(key, value)| (key, Some(value)))
            .collect();
        for overlay in self.overlays() {
            overlay.with(id, |delta| {
                let changed = delta.controls.range::<[u8], _>((page.begins(), Bound::Unbounded));
                let changed: Vec<_> = changed
                    .take_while(|(key, _)| key.starts_with(page.prefix))
                    .take(page.count_max)
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                lasts.extend(last_of_full(&changed, page));
                controls.extend(changed);
            });
        }
        // Behind the last key of whoever has more than it has told, something may be missing.
        let all_until = lasts.into_iter().min();
        if let Some(last) = &all_until {
            controls.retain(|key, _| key <= last);
        }
        Ok((controls, all_until))
    }

    /// Names that begin with `prefix` and stand behind `after`, in order, with the newest stream of each.
    fn names(
        &self,
        prefix: &str,
        after: Option<&str>,
        count_max: usize,
    ) -> Result<Vec<(StreamName, StreamId)>, BackendError> {
        let mut names = BTreeMap::new();
        // Each source gives its first `count_max`, so the first `count_max` of all of them are among those.
        names.extend(self.catalog.names(prefix, after, count_max)?);
        for overlay in self.overlays() {
            names.extend(overlay.names(prefix, after, count_max));
        }
        Ok(names.into_iter().take(count_max).collect())
    }
}

impl Store {
    fn loaded(&self, row: StreamRow) -> StreamState {
        let mut state = row.state;
        // Positions behind its tail may have been given out in an earlier era, and lost.
        if row.era != self.era && !state.closed && !state.deleted {
            state.lineage = renewed(&state.lineage, state.tail, self.era);
        }
        state
    }

    pub(super) fn load(&self, name: &StreamName) -> Result<Option<StreamState>, BackendError> {
        let sight = self.sight()?;
        let Some(id) = sight.id_of(name)? else {
            return Ok(None);
        };
        Ok(sight.row(id, self.era)?.map(|row| self.loaded(row)))
    }

    pub(super) fn list(&self, request: &ListRequest<'_>) -> Result<Vec<StreamState>, BackendError> {
        let sight = self.sight()?;
        let mut states = Vec::new();
        let mut after = request.after.map(str::to_owned);
        while states.len() < request.count_max {
            let wanted = (request.count_max - states.len()).min(PAGE_ROWS);
            let names = sight.names(request.prefix, after.as_deref(), wanted)?;
            for (_, id) in &names {
                let row = sight.row(*id, self.era)?;
                states.extend(row.filter(|row| !row.state.deleted).map(|row| self.loaded(row)));
            }
            if names.len() < wanted {
                break;
            }
            after = names.last().map(|(name, _)| name.as_str().to_owned());
        }
        Ok(states)
    }

    pub(super) fn release(&self, id: StreamId) -> Result<Option<StreamId>, BackendError> {
        // What two of these at once would give back, they would give back twice.
        let _one_at_a_time = self.giving_back.lock();
        let sight = self.sight()?;
        let Some(row) = sight.head(id, self.era)? else {
            return Ok(None);
        };
        assert!(row.state.deleted, "stream {id} is released but not deleted");
        let bytes = row.state.tail.since(row.stored_from);
        {
            let generations = self.generations.read();
            generations.active.release(id, bytes);
            self.runs.forget(id);
        }
        let Some(source) = row.state.source else {
            return Ok(None);
        };
        let source_row = sight.head(source.id, self.era)?;
        Ok(source_row.filter(|row| row.state.deleted).map(|_| source.id))
    }

    pub(super) fn deleted(&self) -> Result<Vec<StreamId>, BackendError> {
        let sight = self.sight()?;
        let mut deleted = sight.catalog.deleted()?;
        for overlay in sight.overlays() {
            deleted.extend(overlay.deleted());
        }
        deleted.sort_unstable();
        deleted.dedup();
        // It may have been released since, or completely imported.
        let mut left = Vec::new();
        for id in deleted {
            let row = sight.head(id, self.era)?;
            left.extend(row.filter(|row| row.state.deleted).map(|_| id));
        }
        Ok(left)
    }

    pub(super) fn reclaim(&self, id: StreamId) -> Result<(), BackendError> {
        let _one_at_a_time = self.giving_back.lock();
        let sight = self.sight()?;
        let Some(row) = sight.head(id, self.era)? else {
            return Ok(());
        };
        let state_of = |id| Ok::<_, BackendError>(sight.head(id, self.era)?.map(|row| row.state));
        let reachable = oldest_reachable(id, |id| sight.forks_of(id), state_of)?.min(row.state.tail);
        if reachable > row.stored_from {
            let generations = self.generations.read();
            let bytes = reachable.since(row.stored_from);
            generations.active.reclaim(id, reachable, bytes);
        }
        Ok(())
    }

    /// The journals do not say what was given back: the storages of all streams that were trimmed since the last fold, or
    /// that had not given back by then what was trimmed before, and of those that are deleted.
    pub(super) fn reclaimable(&self) -> Result<Vec<StreamId>, BackendError> {
        let mut changed = self.deleted()?;
        let sight = self.sight()?;
        changed.extend(sight.catalog.trimmed()?);
        for overlay in sight.overlays() {
            let ids = overlay.ids().into_iter();
            changed.extend(ids.filter(|id| overlay.with(*id, Delta::is_trimmed) == Some(true)));
        }
        let mut storages = Vec::new();
        for id in changed {
            if let Some(row) = sight.head(id, self.era)? {
                storages.extend(row.state.lineage.spans().iter().map(|span| span.stored_in));
            }
        }
        storages.sort_unstable();
        storages.dedup();
        Ok(storages)
    }

    pub(super) fn due(&self, now: Timestamp, count_max: usize) -> Result<Vec<StreamName>, BackendError> {
        let sight = self.sight()?;
        let mut due = BTreeMap::new();
        for overlay in sight.overlays() {
            for (at, id) in overlay.deadlines(now) {
                if due.len() == count_max {
                    break;
                }
                let row = sight.head(id, self.era)?;
                let (deadline, name) =
                    row.map_or((None, None), |row| (deadline(&row.state), Some(row.state.name)));
                match (deadline, name) {
                    (Some(deadline), Some(name)) if deadline <= now => {
                        due.insert(id, name);
                    }
                    (later, _) => overlay.look_again((at, id), later),
                }
            }
        }
        let mut after = None;
        while due.len() < count_max {
            let page = sight.catalog.due(now, after, PAGE_ROWS)?;
            for (_, id) in &page {
                let row = sight.head(*id, self.era)?;
                let over = row.filter(|row| deadline(&row.state).is_some_and(|deadline| deadline <= now));
                if let Some(row) = over.filter(|_| due.len() < count_max) {
                    due.insert(*id, row.state.name);
                }
            }
            after = page.last().copied();
            if page.len() < PAGE_ROWS {
                break;
            }
        }
        Ok(due.into_values().collect())
    }

    pub(super) fn control(&self, id: StreamId, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        let sight = self.sight()?;
        if sight.is_released(id) {
            return Ok(None);
        }
        let changed = |overlay: &super::overlay::Overlay| {
            overlay
                .with(id, |delta| delta.controls.get(key).cloned())
                .flatten()
        };
        match sight.overlays().rev().find_map(changed) {
            Some(value) => Ok(value),
            None => sight.catalog.control(id, key),
        }
    }

    pub(super) fn controls(
        &self,
        id: StreamId,
        request: &ControlsRequest<'_>,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        let sight = self.sight()?;
        let mut found = Vec::new();
        if sight.is_released(id) || request.count_max == 0 {
            return Ok(found);
        }
        let mut after = request.after.map(Bytes::copy_from_slice);
        loop {
            // Keys that were removed since stand in a page too, so one that asks for a few is made no shorter than this.
            let page = ControlsRequest {
                after: after.as_deref(),
                count_max: request.count_max.max(CONTROLS_MIN),
                ..*request
            };
            let (controls, all_until) = sight.controls(id, &page)?;
            let kept = controls
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?)));
            found.extend(kept.take(request.count_max - found.len()));
            if found.len() == request.count_max || all_until.is_none() {
                return Ok(found);
            }
            after = all_until;
        }
    }

    pub(super) fn usage(&self) -> Usage {
        let generations = self.generations.read();
        let frozen = generations
            .frozen
            .as_ref()
            .map(|frozen| Arc::clone(&frozen.overlay));
        let overlays = frozen.iter().chain([&generations.active]);
        let (streams, bytes) = overlays.fold((0, 0), |(streams, bytes), overlay| {
            (streams + overlay.streams(), bytes + overlay.stored_bytes())
        });
        let meta = &generations.meta;
        Usage {
            streams: meta.streams.saturating_add_signed(streams),
            bytes: meta.payload_bytes.saturating_add_signed(bytes),
            bytes_max: None,
        }
    }
}
