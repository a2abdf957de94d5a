//! Files that are refused as such: with which line, and in which words.

use tailwater_storage::stream::NameLimits;

use super::golden::example;
use super::{Event, ExportReader, Read, read};

/// The error of the example with `to` in place of the first `from`.
fn refusal(from: &str, to: &str) -> String {
    let changed = example().replacen(from, to, 1);
    assert_ne!(changed, example(), "{from} is not in the example");
    let Read::Refused(error) = read(changed.as_bytes()) else {
        panic!("{from} as {to} is read");
    };
    error.to_string()
}

/// Checks the error of the example with each change: from, to, and the words.
pub(super) fn check(edits: &[(&str, &str, &str)]) {
    for (from, to, words) in edits {
        assert_eq!(refusal(from, to), *words);
    }
}

#[test]
fn a_first_line_that_is_not_that_of_this_version_is_refused() {
    check(&[
        (
            r#"{"tailwater_export""#,
            r#"{"tailwater""#,
            r#"line 1: this is no export: its first line does not begin with {"tailwater_export":1,… (missing field `tailwater_export`); give a file that `tailwater export` wrote"#,
        ),
        (
            r#"{"tailwater_export":1"#,
            r#"{"tailwater_export":2,"new":[]"#,
            "line 1: `tailwater_export` is 2, and this version reads only 1: a later version wrote this export; import it with that one",
        ),
        (
            r#"exported_at":"#,
            r#"exported_at":-"#,
            "line 1: `exported_at` cannot be read: invalid value: integer `-1795213300000`, expected u64 (column 68); docs/export-format.md says what stands there",
        ),
        (
            r#"exported_at":"#,
            r#"later":1,"exported_at":"#,
            "line 1: `later` cannot be read: unknown field `later`, expected one of `tailwater_export`, `version`, `exported_at` (column 47); docs/export-format.md says what stands there",
        ),
        (
            "exported_at",
            "exported",
            "line 1: `exported` cannot be read: unknown field `exported`, expected one of `tailwater_export`, `version`, `exported_at` (column 50); docs/export-format.md says what stands there",
        ),
    ]);
}

#[test]
fn fields_that_are_unknown_or_missing_or_of_another_kind_are_refused_by_name() {
    check(&[
        (
            r#"{"stream":"#,
            r#"{"streams":"#,
            "line 2: `streams` cannot be read: unknown variant `streams`, expected one of `stream`, `control`, `append`, `end`, `abandoned`, `complete` (column 10); docs/export-format.md says what stands there",
        ),
        (
            r#""oldest":11"#,
            r#""oldest":11,"size":3"#,
            "line 2: `stream.size` cannot be read: unknown field `size`, expected one of `name`, `id`, `content_type`, `lifetime`, `requested`, `lineage`, `source`, `oldest`, `tail`, `messages`, `closed`, `stream_seq`, `producers`, `created_at_ms`, `last_append_at_ms`, `touched_at_ms`, `deleted`, `kind`, `beside`, `has_forks` (column 285); docs/export-format.md says what stands there",
        ),
        (
            r#""oldest":11,"#,
            "",
            "line 2: `stream` cannot be read: missing field `oldest` (column 630); docs/export-format.md says what stands there",
        ),
        (
            r#""oldest":11,"#,
            r#""oldest":11,"oldest":11,"#,
            "line 2: `stream.oldest` cannot be read: duplicate field `oldest` (column 287); docs/export-format.md says what stands there",
        ),
        (
            r#""epoch":0"#,
            r#""epoch":"0""#,
            r#"line 2: `stream.producers.epoch` cannot be read: invalid type: string "0", expected u64 (column 379); docs/export-format.md says what stands there"#,
        ),
        (
            r#""epoch":0,"#,
            "",
            "line 2: `stream.producers` cannot be read: missing field `epoch` (column 407); docs/export-format.md says what stands there",
        ),
        (
            r#""epoch":0"#,
            r#""epoch":1.5"#,
            "line 2: `stream.producers.epoch` cannot be read: invalid type: floating point `1.5`, expected u64 (column 379); docs/export-format.md says what stands there",
        ),
        (
            r#""closed":false"#,
            r#""closed":0"#,
            "line 2: `stream.closed` cannot be read: invalid type: integer `0`, expected a boolean (column 312); docs/export-format.md says what stands there",
        ),
        (
            r#"{"ttl_secs":3600}"#,
            r#"{"ttl":3600}"#,
            "line 2: `stream.lifetime.ttl` cannot be read: unknown variant `ttl`, expected `ttl_secs` or `until_ms` (column 102); docs/export-format.md says what stands there",
        ),
        (
            r#""has_forks":true}}"#,
            r#""has_forks":true"#,
            "line 2: `stream.has_forks` cannot be read: EOF while parsing an object (column 641); docs/export-format.md says what stands there",
        ),
        (
            r#""text":"{\"step\":2},""#,
            r#""base64":"AA=""#,
            r#"line 3: `append.base64` cannot be read: invalid value: string "AA=", expected base64 in the standard alphabet, padded with `=` (column 76); docs/export-format.md says what stands there"#,
        ),
        (
            "[11,21]",
            "[11,-1]",
            "line 4: `append.lengths` cannot be read: invalid value: integer `-1`, expected u32 (column 78); docs/export-format.md says what stands there",
        ),
        (
            r#""base64":"iVBORw0KGgo=""#,
            r#""base64":"iVBORw0KGgo""#,
            r#"line 11: `append.base64` cannot be read: invalid value: string "iVBORw0KGgo", expected base64 in the standard alphabet, padded with `=` (column 83); docs/export-format.md says what stands there"#,
        ),
        (
            r#""value":"AP8=""#,
            r#""value":"AP8""#,
            r#"line 10: `control.value` cannot be read: invalid value: string "AP8", expected base64 in the standard alphabet, padded with `=` (column 42); docs/export-format.md says what stands there"#,
        ),
    ]);
}

#[test]
fn an_end_that_does_not_fit_the_lines_before_it_is_refused() {
    check(&[
        (
            r#""appends":2"#,
            r#""appends":3"#,
            "line 5: `end.appends` is 3; there are 2: the file lost lines of stream `runs/1` or was changed; export it again",
        ),
        (
            r#""bytes":43"#,
            r#""bytes":44"#,
            "line 5: `end.bytes` is 44; there are 43: the file lost lines of stream `runs/1` or was changed; export it again",
        ),
        (
            r#""tail":33"#,
            r#""tail":34"#,
            "line 8: `stream.tail` is 34, but its appends end at 33; the file lost lines of stream `runs/1/retry` or was changed; export it again",
        ),
        (
            r#""messages":3"#,
            r#""messages":4"#,
            "line 8: `stream.messages` is 4, but its appends end with message 3; the file lost lines of stream `runs/1/retry` or was changed; export it again",
        ),
        (
            r#""crc32":"4f740675""#,
            r#""crc32":"AA769283""#,
            r#"line 5: `end.crc32` is "AA769283"; a checksum is eight digits from 0 to 9 and a to f"#,
        ),
        (
            r#""crc32":"4f740675""#,
            r#""crc32":"aa769284""#,
            "line 5: the checksum of stream `runs/1` is wrong (aa769284 instead of 4f740675): the file was changed or damaged; export it again",
        ),
        (
            r#""stream_seq":"00042""#,
            r#""stream_seq":"00043""#,
            "line 5: the checksum of stream `runs/1` is wrong (4f740675 instead of 99e716fe): the file was changed or damaged; export it again",
        ),
        (
            r#""streams":3"#,
            r#""streams":2"#,
            "line 15: `complete.streams` is 2; the file has 3: it was changed; export again",
        ),
        (
            r#""streams":3"#,
            r#""streams":4"#,
            "line 15: `complete.streams` is 4; the file has 3: it was changed; export again",
        ),
    ]);
}

#[test]
fn lines_in_another_order_are_refused() {
    check(&[
        (
            "{\"complete\":{\"streams\":3}}\n",
            "{\"complete\":{\"streams\":3}}\n\n{}\n",
            "line 17: a line follows `complete`, which is the last one; remove it, or import one export at a time",
        ),
        (r#"{"end""#, "\n{\"end\"", "line 5: the line is empty; remove it"),
        (
            r#"{"end""#,
            "{\"control\":{\"key\":\"\",\"value\":\"\"}}\n{\"end\"",
            "line 5: a line `control` stands where only `append`, `end` or `abandoned` can stand: lines are missing or in another order; export again",
        ),
        (
            r#"{"control""#,
            "{\"complete\":{\"streams\":2}}\n{\"control\"",
            "line 10: a line `complete` stands where only `control`, `append`, `end` or `abandoned` can stand: lines are missing or in another order; export again",
        ),
        (
            r#"{"stream""#,
            "{\"end\":{\"appends\":0,\"bytes\":0,\"crc32\":\"00000000\"}}\n{\"stream\"",
            "line 2: a line `end` stands where only `stream` or `complete` can stand: lines are missing or in another order; export again",
        ),
    ]);
}

#[test]
fn a_stream_that_lost_all_its_appends_is_refused() {
    let lines: Vec<_> = example().lines().map(String::from).collect();
    let end = r#"{"end":{"appends":0,"bytes":0,"crc32":"00000000"}}"#;
    let Read::Refused(error) = read([&lines[0], &lines[1], end].join("\n").as_bytes()) else {
        panic!("it is read");
    };
    assert_eq!(
        error.to_string(),
        "line 3: `stream.tail` is 54, but its appends end at 11; the file lost lines of stream `runs/1` or was \
         changed; export it again"
    );
}

#[test]
fn a_name_beyond_the_limits_is_refused_unless_it_is_only_the_name_of_a_source() {
    let limits = |bytes_max| NameLimits {
        bytes_max,
        segments_max: 16,
    };
    let refusal = |bytes_max| {
        let mut reader = ExportReader::new(limits(bytes_max));
        let example = example();
        example
            .lines()
            .find_map(|line| reader.line(line.as_bytes()).err())
    };
    assert_eq!(refusal(12), None);
    let error = refusal(11).expect("a refusal").to_string();
    assert_eq!(
        error,
        "line 6: `stream.name` is \"runs/1/retry\"; the stream name has 12 bytes; at most 11 are allowed"
    );
    let fork = example()
        .lines()
        .nth(5)
        .map(|line| line.replacen("runs/1/retry", "r", 1));
    let mut reader = ExportReader::new(limits(1));
    for line in [example().lines().next().expect("a line"), &fork.expect("a line")] {
        reader
            .line(line.as_bytes())
            .expect("its source may have a long name");
    }
}

#[test]
fn nothing_behind_a_refused_line_is_read() {
    let example = example();
    let mut reader = ExportReader::new(NameLimits::default());
    let (head, rest) = example.split_once('\n').expect("lines");
    assert_eq!(reader.line(head.as_bytes()), Ok(Event::Begun));
    assert!(reader.line(b"x").is_err());
    for line in rest.lines().chain([head]) {
        let words = reader.line(line.as_bytes()).expect_err("a refusal").to_string();
        let behind =
            "a line before this one was refused, so nothing behind it is read; correct that one first";
        assert_eq!(words, format!("line {}: {behind}", reader.lines()));
    }
    assert_eq!((reader.is_complete(), reader.lines()), (false, 17));
}

#[test]
fn an_export_with_a_line_behind_the_last_one_is_not_complete() {
    let example = example();
    let mut reader = ExportReader::new(NameLimits::default());
    for line in example.lines() {
        reader.line(line.as_bytes()).expect("a line of the example");
    }
    assert!(reader.is_complete());
    assert!(reader.line(b"{}").is_err() && !reader.is_complete());
}

#[test]
fn empty_lines_behind_the_last_one_change_nothing() {
    let mut reader = ExportReader::new(NameLimits::default());
    for line in example().lines() {
        reader.line(line.as_bytes()).expect("a line of the example");
    }
    for line in ["", "\n", "\r\n", " \n"] {
        assert_eq!(reader.line(line.as_bytes()), Ok(Event::Complete { streams: 3 }));
        assert!(reader.is_complete());
    }
}

#[test]
fn an_error_repeats_only_the_beginning_of_a_long_value() {
    let long = "x".repeat(100_000);
    for (from, to) in [
        (
            r#""content_type":"application/json""#,
            format!("\"content_type\":\"{long}\""),
        ),
        (r#""closed":false"#, format!("\"closed\":\"{long}\"")),
        (r#""closed""#, format!("\"{long}\"")),
    ] {
        let words = refusal(from, &to);
        assert!(words.starts_with("line 2: ") && words.contains("xxx…"), "{words}");
        assert!(words.len() < 1000, "{} bytes", words.len());
    }
}
