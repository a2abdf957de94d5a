//! Stores on disk: journals, folds, merges, segments, shards, and the room that is left for them.

use tailwater_process::page::Page;
use tailwater_storage::acid::AcidStats;
use tailwater_storage::file::{FileStats, StoreActivity};
use tailwater_storage::{Store, StoreStats};

/// What a store says of itself at one moment.
pub(crate) struct StoreLook {
    /// None if the store cannot be asked.
    stats: Option<StoreStats>,
    /// None in a store of shards.
    activity: Option<StoreActivity>,
    refuses_appends: bool,
    /// None if the disk does not say.
    free_bytes: Option<u64>,
}

impl StoreLook {
    /// Asks a store. May take as long as the disk.
    pub(super) fn at(store: &Store) -> Self {
        let stats = store
            .stats()
            .inspect_err(|error| tracing::warn!(%error, "the store cannot be asked what it holds"));
        let free_bytes = store
            .free_bytes()
            .inspect_err(|error| tracing::warn!(%error, "the disk does not say what is free"));
        let (activity, refuses_appends) = match store {
            Store::File(store) => {
                let activity = store.activity();
                let refuses_appends = activity.refuses_appends;
                (Some(activity), refuses_appends)
            }
            Store::Acid(store) => (None, store.refuses_appends()),
        };
        Self {
            stats: stats.ok(),
            activity,
            refuses_appends,
            free_bytes: free_bytes.ok(),
        }
    }

    /// What the index of what is not folded may take of memory; none in a store of shards.
    pub(super) fn index_bytes_max(&self) -> Option<u64> {
        self.activity.as_ref().map(|activity| activity.index_bytes_max)
    }

    pub(super) fn render(&self, page: &mut Page) {
        page.gauge(
            "tailwater_store_full",
            "1 while appends are refused because the disk is full: delete or trim streams, or make room on the disk.",
            u8::from(self.refuses_appends),
        );
        if let Some(free_bytes) = self.free_bytes {
            page.gauge(
                "tailwater_store_free_bytes",
                "Bytes that the disk has left for the data directory; journals and merges need some, so it is full earlier.",
                free_bytes,
            );
        }
        if let Some(activity) = &self.activity {
            journals(page, activity);
            compaction(page, activity);
        }
        match &self.stats {
            Some(StoreStats::File(stats)) => files(page, stats),
            Some(StoreStats::Acid(stats)) => shards(page, stats),
            None => {}
        }
    }
}

fn journals(page: &mut Page, activity: &StoreActivity) {
    page.counter(
        "tailwater_store_journal_bytes_total",
        "Bytes written to journals.",
        activity.journal_bytes_written,
    );
    page.counter(
        "tailwater_store_syncs_total",
        "Syncs of journals.",
        activity.syncs,
    );
    page.counter(
        "tailwater_store_sync_seconds_total",
        "Time that they took, which is the disk's.",
        activity.sync_time.as_secs_f64(),
    );
    page.gauge(
        "tailwater_store_index_bytes",
        "Memory that the index of what is not folded takes.",
        activity.index_bytes,
    );
    page.counter(
        "tailwater_store_memory_waits_total",
        "Commits that waited for a fold because that index took too much: raise limits.max_memory_bytes, or the disk is too slow.",
        activity.memory_waits,
    );
    page.counter(
        "tailwater_store_memory_wait_seconds_total",
        "Time that they waited.",
        activity.memory_wait_time.as_secs_f64(),
    );
}

fn compaction(page: &mut Page, activity: &StoreActivity) {
    page.counter(
        "tailwater_store_folds_total",
        "Times that journals were folded into segments.",
        activity.folds,
    );
    page.counter(
        "tailwater_store_fold_seconds_total",
        "Time that this took.",
        activity.fold_time.as_secs_f64(),
    );
    page.counter(
        "tailwater_store_folded_bytes_total",
        "Bytes of segments made by that.",
        activity.folded_bytes,
    );
    page.counter(
        "tailwater_store_full_folds_total",
        "Times that there was no space for it: make room on the disk.",
        activity.full_folds,
    );
    page.counter(
        "tailwater_store_merges_total",
        "Times that segments were merged.",
        activity.merges,
    );
    page.counter(
        "tailwater_store_merge_seconds_total",
        "Time that this took.",
        activity.merge_time.as_secs_f64(),
    );
    page.counter(
        "tailwater_store_merged_bytes_total",
        "Bytes of segments made by that.",
        activity.merged_bytes,
    );
    page.counter(
        "tailwater_store_unreadable_segments_total",
        "Times that a segment could not be read when it was to be merged: run tailwater verify.",
        activity.unreadable_segments,
    );
}

fn files(page: &mut Page, stats: &FileStats) {
    page.gauge(
        "tailwater_store_deleted_streams",
        "Deleted streams whose bytes stay until their forks are deleted too.",
        stats.deleted_streams,
    );
    page.gauge(
        "tailwater_store_unfolded_bytes",
        "Bytes in journals that are not in segments yet: a restart reads them again.",
        stats.unfolded_bytes,
    );
    page.gauge(
        "tailwater_store_journals",
        "Files of journals, those in waiting included.",
        stats.journals,
    );
    page.gauge(
        "tailwater_store_journal_bytes",
        "Length of those files.",
        stats.journal_bytes,
    );
    page.gauge("tailwater_store_segments", "Segments.", stats.segments);
    page.gauge(
        "tailwater_store_segment_bytes",
        "Length of their files.",
        stats.segment_bytes,
    );
    page.gauge(
        "tailwater_store_live_bytes",
        "Bytes in segments that streams want.",
        stats.live_bytes,
    );
    page.gauge(
        "tailwater_store_dead_bytes",
        "Bytes in segments that no stream wants any more.",
        stats.dead_bytes,
    );
    page.gauge(
        "tailwater_store_catalog_bytes",
        "Length of the catalog's file.",
        stats.catalog_bytes,
    );
}

fn shards(page: &mut Page, stats: &AcidStats) {
    page.gauge(
        "tailwater_store_deleted_streams",
        "Deleted streams whose bytes stay until their forks are deleted too.",
        stats.deleted_streams,
    );
    page.gauge("tailwater_store_shards", "Shards.", stats.shards);
    page.gauge(
        "tailwater_store_shard_bytes",
        "Length of the files of all shards.",
        stats.shard_bytes,
    );
}
