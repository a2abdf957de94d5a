//! Control keys: small keyed values that belong to a stream and end with it.

use std::collections::BTreeMap;

use tailwater_storage::Backend;
use tailwater_storage::backend::{ControlsRequest, ListRequest};
use tailwater_storage::stream::StreamId;

use super::author::{Author, commit, control, load, release_all, together};
use crate::every_backend;

fn value(backend: &dyn Backend, id: StreamId, key: &str) -> Option<String> {
    let value = backend.control(id, key.as_bytes()).expect("the backend works");
    value.map(|value| String::from_utf8(value.to_vec()).expect("text"))
}

fn keys(backend: &dyn Backend, id: StreamId, prefix: &str) -> Vec<String> {
    let entries = backend
        .controls(id, prefix.as_bytes())
        .expect("the backend works");
    texts(&entries)
}

fn texts(entries: &[(bytes::Bytes, bytes::Bytes)]) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    entries
        .iter()
        .map(|(key, value)| format!("{}={}", text(key), text(value)))
        .collect()
}

#[test]
fn a_key_is_set_replaced_and_removed() {
    every_backend(|backend| {
        let id = Author::default().stream_of(backend, "a", &[]);
        assert_eq!(value(backend, id, "k"), None);
        commit(backend, &[control(id, "k", Some("1"))]);
        assert_eq!(value(backend, id, "k").as_deref(), Some("1"));
        commit(
            backend,
            &[control(id, "k", Some("22")), control(id, "other", Some(""))],
        );
        assert_eq!(value(backend, id, "k").as_deref(), Some("22"));
        assert_eq!(value(backend, id, "other").as_deref(), Some(""));
        commit(backend, &[control(id, "k", None), control(id, "never set", None)]);
        assert_eq!(value(backend, id, "k"), None);
        assert_eq!(keys(backend, id, ""), ["other="]);
    });
}

#[test]
fn the_parts_of_a_record_change_a_key_in_their_order() {
    every_backend(|backend| {
        let id = Author::default().stream_of(backend, "a", &[]);
        let changes = [Some("1"), None, Some("3")];
        commit(backend, &[together(changes.map(|value| control(id, "k", value)))]);
        assert_eq!(keys(backend, id, ""), ["k=3"]);
    });
}

#[test]
fn keys_are_told_by_prefix_in_order() {
    every_backend(|backend| {
        let mut author = Author::default();
        let (a, b) = (
            author.stream_of(backend, "a", &[]),
            author.stream_of(backend, "b", &[]),
        );
        for key in ["sub/2", "sub/10", "lease", "sub", "sub\u{ff}", "t"] {
            commit(backend, &[control(a, key, Some("x"))]);
        }
        commit(backend, &[control(b, "sub/3", Some("y"))]);
        assert_eq!(keys(backend, a, "sub/"), ["sub/10=x", "sub/2=x"]);
        assert_eq!(
            keys(backend, a, "sub"),
            ["sub=x", "sub/10=x", "sub/2=x", "sub\u{ff}=x"]
        );
        assert_eq!(keys(backend, a, "zzz"), [""; 0]);
        assert_eq!(keys(backend, b, ""), ["sub/3=y"]);
    });
}

/// So many that some stand in a backend's catalog and others only in its journals, in whose pages many were removed.
#[test]
fn keys_are_told_a_page_at_a_time_though_those_between_were_removed() {
    const KEYS: usize = 3_000;
    every_backend(|backend| {
        let mut author = Author::default();
        let (id, other) = (
            author.stream_of(backend, "a", &[]),
            author.stream_of(backend, "b", &[]),
        );
        let mut known = BTreeMap::new();
        let mut set = |keys: Vec<String>, value: Option<&str>| {
            for chunk in keys.chunks(250) {
                let changes = chunk.iter().map(|key| control(id, key, value));
                commit(backend, &[together(changes)]);
            }
            for key in keys {
                match value {
                    Some(value) => known.insert(key, value.to_owned()),
                    None => known.remove(&key),
                };
            }
        };
        let link = |number: usize| format!("link/{number:04}");
        set((0..KEYS).map(link).collect(), Some("old"));
        set((100..2_900).map(link).collect(), None);
        set((0..KEYS).step_by(300).map(link).collect(), Some("new"));
        set(
            vec!["config".into(), "link".into(), "link0".into(), "state".into()],
            Some("x"),
        );
        commit(backend, &[control(other, "link/0001", Some("y"))]);

        let told = |prefix: &str, after: Option<&str>, count_max: usize| {
            let request = ControlsRequest {
                prefix: prefix.as_bytes(),
                after: after.map(str::as_bytes),
                count_max,
            };
            let listed = backend.list_controls(id, &request).expect("the backend works");
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
            let listed = listed.iter().map(|(key, value)| (text(key), text(value)));
            listed.collect::<Vec<_>>()
        };
        let expected = |prefix: &str, after: Option<&str>, count_max: usize| {
            let behind = known
                .iter()
                .filter(|(key, _)| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after));
            let behind = behind.map(|(key, value)| (key.clone(), value.clone()));
            behind.take(count_max).collect::<Vec<_>>()
        };
        for prefix in ["", "link/", "link", "link/2", "none"] {
            for after in [
                None,
                Some(""),
                Some("a"),
                Some("link/0050"),
                Some("link/0099"),
                Some("link/15"),
                Some("z"),
            ] {
                for count_max in [0, 1, 2, 70, 1_000, usize::MAX] {
                    assert_eq!(
                        told(prefix, after, count_max),
                        expected(prefix, after, count_max),
                        "{count_max} of {prefix:?} behind {after:?}"
                    );
                }
            }
        }
        for count_max in [1, 3, 64, 65] {
            let mut pages = Vec::new();
            loop {
                let after = pages.last().map(|(key, _): &(String, String)| key.clone());
                let page = told("link/", after.as_deref(), count_max);
                let is_last = page.len() < count_max;
                pages.extend(page);
                if is_last {
                    break;
                }
            }
            assert_eq!(
                pages,
                expected("link/", None, usize::MAX),
                "in pages of {count_max}"
            );
        }
    });
}

#[test]
fn keys_end_with_their_stream() {
    every_backend(|backend| {
        let mut author = Author::default();
        let old = author.stream_of(backend, "a", &[]);
        commit(backend, &[control(old, "k", Some("old")), author.delete(old)]);
        let new = author.stream_of(backend, "a", &[]);
        assert_eq!(value(backend, new, "k"), None);
        release_all(backend);
        assert_eq!(value(backend, old, "k"), None);
        assert_eq!(keys(backend, old, ""), [""; 0]);
    });
}

/// Subscriptions are streams of reserved names, with keys and without bytes.
#[test]
fn a_stream_of_a_reserved_name_is_kept_listed_and_released_like_any_other() {
    const HIDDEN: &str = "__ds/subscriptions/emails";
    every_backend(|backend| {
        let mut author = Author::default();
        author.stream_of(backend, "A", &["1"]);
        author.stream_of(backend, "a", &["1"]);
        let (id, create) = author.create(HIDDEN);
        commit(backend, &[together([create, control(id, "config", Some("c"))])]);
        commit(
            backend,
            &[together([
                control(id, "state", Some("s")),
                control(id, "link/a", Some("l")),
            ])],
        );
        assert_eq!(load(backend, HIDDEN).as_ref(), Some(author.state(id)));
        assert_eq!(keys(backend, id, ""), ["config=c", "link/a=l", "state=s"]);
        assert_eq!(names(backend, ""), ["A", HIDDEN, "a"]);
        assert_eq!(names(backend, "__ds/"), [HIDDEN]);
        commit(backend, &[author.delete(id)]);
        assert_eq!(names(backend, ""), ["A", "a"]);
        backend.release(id).expect("the backend works");
        assert_eq!(load(backend, HIDDEN), None);
        assert_eq!(keys(backend, id, ""), [""; 0]);
    });
}

fn names(backend: &dyn Backend, prefix: &str) -> Vec<String> {
    let request = ListRequest {
        prefix,
        after: None,
        count_max: 10,
    };
    let listed = backend.list(&request).expect("the backend works");
    listed.iter().map(|state| state.name.to_string()).collect()
}
