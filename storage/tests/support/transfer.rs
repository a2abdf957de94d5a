//! Takes all that an engine exports to another one.

use tailwater_storage::Engine;
use tailwater_storage::engine::{Begun, Existing};

pub(crate) async fn transfer(from: &Engine, to: &Engine, existing: Existing) {
    transfer_below(from, to, existing, "").await;
}

/// Likewise, of those streams whose names begin with a prefix.
pub(crate) async fn transfer_below(from: &Engine, to: &Engine, existing: Existing, prefix: &str) {
    let mut exporter = from.export(prefix);
    let mut importer = to.import(existing);
    while let Some(mut export) = exporter.next().await.expect("it can be read") {
        if importer.begin(export.stream().clone()).await.expect("room") == Begun::Present {
            continue;
        }
        for (key, value) in export.controls().to_vec() {
            importer.control(key, value).await.expect("room");
        }
        while let Some(append) = export.next().await.expect("it can be read") {
            importer.append(append).await.expect("room");
        }
        importer.finish().await.expect("room");
    }
}
