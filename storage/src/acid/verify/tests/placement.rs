//! What stands in which shard, and what leads from one to another.

use redb::ReadableTable as _;

use super::store::{Store, Who, expect, name_in};
use crate::acid::placement::Placement;
use crate::acid::tables::{self, REDIRECTS};
use crate::stream_tables::StreamTables;
use crate::stream_tables::keys::NAMES;

#[test]
fn a_name_that_does_not_lead_to_its_stream_in_another_shard() {
    let remove = |store: &Store, t: &redb::WriteTransaction| {
        let mut redirects = t.open_table(REDIRECTS).expect("there is one");
        let removed = redirects.remove(store.name(Who::Fork).as_str().as_bytes());
        assert!(removed.expect("removed").is_some());
    };
    expect(1, &["does not lead to stream"], remove);
    expect(1, &["does not lead to stream"], |store, t| {
        remove(store, t);
        let Placement(here) = Placement::of_id(store.id(Who::Heir));
        tables::put_redirect(t, store.name(Who::Fork).as_str(), here).expect("put");
    });
    let store = Store::new();
    store.change(1, |t| {
        let mut redirects = t.open_table(REDIRECTS).expect("there is one");
        let name = store.name(Who::Fork).as_str().as_bytes();
        redirects.insert(name, [2, 0].as_slice()).expect("put");
    });
    // Its own shard tells of it, and nobody else.
    store.expect(&["shard 001, table redirects: the row".to_owned()]);
}

#[test]
fn a_redirect_in_a_shard_where_nobody_looks() {
    expect(0, &["is looked up in shard 001"], |store, t| {
        let Placement(here) = Placement::of_id(store.id(Who::Fork));
        tables::put_redirect(t, store.name(Who::Fork).as_str(), here).expect("put");
    });
}

/// What is below a prefix needs no redirect of its own.
#[test]
fn a_name_that_leads_to_its_stream_by_its_prefix() {
    let key = "/fork/";
    let looked_up = Placement::of_name_bytes(key.as_bytes()).shard(2) as u32;
    let store = Store::new();
    let fork = store.name(Who::Fork).clone();
    assert!(fork.as_str().starts_with("fork/"), "{fork}");
    store.change(1, |t| {
        let mut redirects = t.open_table(REDIRECTS).expect("there is one");
        let removed = redirects.remove(fork.as_str().as_bytes());
        assert!(removed.expect("removed").is_some());
    });
    let Placement(here) = Placement::of_id(store.id(Who::Fork));
    store.change(looked_up, |t| tables::put_redirect(t, key, here).expect("put"));
    store.expect(&[]);
    let Placement(elsewhere) = Placement::of_id(store.id(Who::Heir));
    store.change(looked_up, |t| {
        let mut redirects = t.open_table(REDIRECTS).expect("there is one");
        redirects.remove(key.as_bytes()).expect("removed");
        drop(redirects);
        tables::put_redirect(t, key, elsewhere).expect("put");
    });
    let id = store.id(Who::Fork);
    store.expect(&[format!("{fork} does not lead to stream {id} from shard 001")]);
}

#[test]
fn a_prefix_in_a_shard_where_nobody_looks_or_that_is_none() {
    let key = "/runs/";
    let looked_up = Placement::of_name_bytes(key.as_bytes()).shard(2) as u32;
    let what = format!("names that begin with runs/ are looked up in shard {looked_up:03}");
    expect(1 - looked_up, &[&what], |_, t| {
        tables::put_redirect(t, key, 4).expect("put");
    });
    expect(0, &["it is the prefix of no name"], |_, t| {
        tables::put_redirect(t, "/runs", 4).expect("put");
    });
}

/// A crash leaves one between the redirect and the fork, and every fork leaves one that is deleted.
#[test]
fn a_redirect_that_leads_to_nothing_is_noted_and_no_damage() {
    let store = Store::new();
    store.change(1, |t| {
        for beginning in ["once", "never"] {
            tables::put_redirect(t, name_in(1, beginning).as_str(), 4).expect("put");
        }
    });
    let report = store.check();
    assert_eq!(report.damage, [""; 0]);
    let [note] = &report.notes[..] else {
        panic!("{:?}", report.notes)
    };
    assert!(note.contains("shard 001 leads 2 names"), "{note}");
}

/// Its name is free for another stream, in whatever shard, before the one that is deleted is released.
#[test]
fn the_name_of_a_deleted_stream_may_lead_elsewhere() {
    let store = Store::new();
    let fork = store.id(Who::Fork);
    store.change(0, |t| {
        let mut streams = StreamTables::new(t);
        let mut row = streams.head(fork).expect("readable").expect("it is there");
        row.state.deleted = true;
        streams.put_row(&row, None).expect("put");
        streams.mark_deleted(fork).expect("marked");
    });
    store.change(1, |t| {
        let Placement(other) = Placement::of_id(store.id(Who::Heir));
        tables::put_redirect(t, store.name(Who::Fork).as_str(), other).expect("put");
    });
    store.expect(&[]);
}

#[test]
fn two_streams_of_one_name_in_two_shards() {
    let store = Store::new();
    let (fork, heir) = (store.name(Who::Fork).clone(), store.id(Who::Heir));
    store.change(1, |t| {
        let mut streams = StreamTables::new(t);
        let mut row = streams.head(heir).expect("readable").expect("it is there");
        streams.remove_name(&row.state.name, heir).expect("removed");
        streams.put_name(&fork, heir).expect("put");
        row.state.name = fork.clone();
        streams.put_row(&row, None).expect("put");
    });
    store.expect(&[format!("has the name {fork}, which leads to stream {heir}")]);
}

#[test]
fn a_stream_in_a_shard_of_others() {
    let store = Store::new();
    // One moves to the other shard with all that is known of it.
    let id = store.id(Who::Living);
    let mut row = None;
    store.change(0, |t| {
        row = StreamTables::new(t).remove_stream(id).expect("removed");
        let mut meta = tables::meta(t).expect("readable");
        meta.streams -= 1;
        tables::put_meta(t, &meta).expect("put");
    });
    let row = row.expect("it was there");
    store.change(1, |t| {
        let mut streams = StreamTables::new(t);
        streams
            .put_row(&row, crate::stream_tables::deadline(&row.state))
            .expect("put");
        streams.put_name(&row.state.name, id).expect("put");
        drop(streams);
        let mut meta = tables::meta(t).expect("readable");
        meta.streams += 1;
        tables::put_meta(t, &meta).expect("put");
    });
    let name = store.name(Who::Living);
    store.expect(&[
        format!("shard 001, table streams: stream {id} belongs in shard 000"),
        format!("{name} does not lead to stream {id} from shard 000"),
    ]);
}

#[test]
fn a_name_that_leads_to_what_does_not_have_it() {
    expect(1, &["which does not have it"], |store, t| {
        let mut names = t.open_table(NAMES).expect("there is one");
        let value = {
            let heir = names.get(store.name(Who::Heir).as_str().as_bytes());
            heir.expect("read").expect("it is there").value().to_vec()
        };
        names.insert(b"other".as_slice(), value.as_slice()).expect("put");
    });
}
