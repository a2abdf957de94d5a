//! Control keys: small keyed values that belong to a stream and end with it.

use tailwater_storage::Backend;
use tailwater_storage::stream::StreamId;

use super::author::{Author, commit, control, release_all, together};
use crate::every_backend;

fn value(backend: &dyn Backend, id: StreamId, key: &str) -> Option<String> {
    let value = backend.control(id, key.as_bytes()).expect("the backend works");
    value.map(|value| String::from_utf8(value.to_vec()).expect("text"))
}

fn keys(backend: &dyn Backend, id: StreamId, prefix: &str) -> Vec<String> {
    let entries = backend
        .controls(id, prefix.as_bytes())
        .expect("the backend works");
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
