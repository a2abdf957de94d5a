//! The tables of streams, of which the catalog of a file store has the same: that they are looked at at all, and what is
//! counted of them.

use redb::ReadableTable as _;

use super::store::{LONG_BYTES, Store, Who, expect};
use crate::acid::tables::{self, ShardMeta};
use crate::database::META;
use crate::stream_tables::keys::{
    CONTROLS, DEADLINES, DELETED, FORKS, NAMES, PRODUCERS, STREAMS, id_key, owned_key, pair_key,
};

#[test]
fn a_store_that_nobody_has_tampered_with_is_whole() {
    let report = Store::new().check();
    assert_eq!(report.damage, [""; 0]);
    assert_eq!(report.notes, [""; 0]);
    assert_eq!((report.streams, report.deleted_streams, report.shards), (6, 1, 2));
    assert_eq!((report.blocks, report.appends, report.messages), (5, 5, 5));
    assert!(report.shard_bytes > LONG_BYTES as u64);
}

#[test]
fn streams_and_what_leads_to_them() {
    expect(0, &["leads nowhere and not to stream"], |store, t| {
        let mut names = t.open_table(NAMES).expect("there is one");
        let removed = names.remove(store.name(Who::Source).as_str().as_bytes());
        assert!(removed.expect("removed").is_some());
    });
    expect(0, &["table forks: stream"], |store, t| {
        let mut forks = t.open_table(FORKS).expect("there is one");
        let key = pair_key(store.id(Who::Source).get(), store.id(Who::Fork).get());
        assert!(forks.remove(&key).expect("removed").is_some());
    });
    expect(1, &["table deleted: stream"], |store, t| {
        let mut deleted = t.open_table(DELETED).expect("there is one");
        assert!(
            deleted
                .remove(&id_key(store.id(Who::Gone)))
                .expect("removed")
                .is_some()
        );
    });
    expect(0, &["table deadlines: stream"], |_, t| {
        let mut deadlines = t.open_table(DEADLINES).expect("there is one");
        deadlines.retain(|_, ()| false).expect("removed");
    });
    expect(0, &["has no deadline at 7"], |store, t| {
        let mut deadlines = t.open_table(DEADLINES).expect("there is one");
        let key = pair_key(7, store.id(Who::Source).get());
        deadlines.insert(&key, ()).expect("put");
    });
}

#[test]
fn a_stream_that_is_missing_leaves_much_behind() {
    expect(
        0,
        &[
            "is missing, and stream",
            "table names: source",
            "table producers: the row",
            "table controls: the row",
            "table blocks: the row",
            "bytes are counted, and",
            "4 streams are counted, and 3 are there",
        ],
        |store, t| {
            let mut streams = t.open_table(STREAMS).expect("there is one");
            assert!(
                streams
                    .remove(&id_key(store.id(Who::Source)))
                    .expect("removed")
                    .is_some()
            );
        },
    );
}

#[test]
fn rows_that_belong_to_nobody_or_cannot_be_read() {
    let stray = |store: &Store| owned_key(store.id(Who::Gone), b"k");
    expect(0, &["table controls: the row"], |store, t| {
        let mut controls = t.open_table(CONTROLS).expect("there is one");
        controls
            .insert(stray(store).as_slice(), [1, 1, b'v'].as_slice())
            .expect("put");
    });
    // Values begin with their version.
    expect(0, &["table producers: the row"], |store, t| {
        let mut producers = t.open_table(PRODUCERS).expect("there is one");
        let key = owned_key(store.id(Who::Source), b"p");
        assert!(
            producers
                .insert(key.as_slice(), [9].as_slice())
                .expect("put")
                .is_some()
        );
    });
}

#[test]
fn what_is_counted_is_there() {
    let wrong = |change: fn(&mut ShardMeta), words: &str| {
        let store = Store::new();
        store.change(1, |t| {
            let mut meta = tables::meta(t).expect("readable");
            change(&mut meta);
            tables::put_meta(t, &meta).expect("put");
        });
        store.expect(&[words.to_owned()]);
    };
    wrong(
        |meta| meta.streams += 1,
        "shard 001, table meta: 3 streams are counted, and 2 are there",
    );
    wrong(|meta| meta.payload_bytes -= 1, "bytes are counted");
    wrong(|meta| meta.last_id = 5, "the last id is said to be 5");
    wrong(|meta| meta.number = 0, "it is number 0 of 2");
    wrong(|meta| meta.store.0[3] ^= 1, "it is number 1 of 2 of the store");
}

#[test]
fn what_is_known_of_a_shard_can_be_read() {
    expect(0, &["shard 000, table meta"], |_, t| {
        let mut meta = t.open_table(META).expect("there is one");
        let key = b"shard".as_slice();
        let cut = meta.get(key).expect("read").expect("there").value()[..20].to_vec();
        meta.insert(key, cut.as_slice()).expect("put");
    });
}
