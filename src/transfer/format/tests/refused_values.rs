//! Values of streams and appends that are refused: with which line, and in which words.

use super::refusals::check;

#[test]
fn values_that_no_stream_can_have_are_refused() {
    check(&[
        (
            r#""id":"0000000000000005""#,
            r#""id":"5""#,
            r#"line 2: `stream.id` is "5"; an id is sixteen digits, from "0000000000000001" on"#,
        ),
        (
            r#""id":"0000000000000005""#,
            r#""id":"0000000000000000""#,
            r#"line 2: `stream.id` is "0000000000000000"; an id is sixteen digits, from "0000000000000001" on"#,
        ),
        (
            r#""id":"0000000000000005""#,
            r#""id":"+000000000000005""#,
            r#"line 2: `stream.id` is "+000000000000005"; an id is sixteen digits, from "0000000000000001" on"#,
        ),
        (
            r#""name":"runs/1""#,
            r#""name":"runs//1""#,
            r#"line 2: `stream.name` is "runs//1"; the stream name has an empty segment; remove the doubled, leading or trailing slash"#,
        ),
        (
            r#""content_type":"application/json""#,
            r#""content_type":"json""#,
            r#"line 2: `stream.content_type` is "json"; a content type is type/subtype in ASCII, such as "application/json""#,
        ),
        (
            r#""requested":{"content_type":"application/json""#,
            r#""requested":{"content_type":"""#,
            r#"line 2: `stream.requested.content_type` is ""; a content type is type/subtype in ASCII, such as "application/json""#,
        ),
        (
            r#""tail":54"#,
            r#""tail":10000000000000000"#,
            "line 2: `stream.tail` is 10000000000000000; a position is at most 9999999999999999",
        ),
        (
            r#""oldest":11"#,
            r#""oldest":55"#,
            "line 2: `stream.oldest` is 55; it cannot be beyond the tail, which is 54",
        ),
        (
            r#""messages":4"#,
            r#""messages":55"#,
            "line 2: `stream.messages` is 55; a stream of 54 bytes (`stream.tail`) has at most as many messages",
        ),
        (
            r#"[{"from":0,"owner":"0000000000000005"}]"#,
            "[]",
            "line 2: `stream.lineage` is empty; the first span begins at 0, and each other one behind the one before it",
        ),
        (
            r#"[{"from":0,"#,
            r#"[{"from":3,"#,
            "line 2: `stream.lineage` is from 3 on; the first span begins at 0, and each other one behind the one before it",
        ),
        (
            r#""owner":"0000000000000005""#,
            r#""owner":"x""#,
            r#"line 2: `stream.lineage[0].owner` is "x"; an id is sixteen digits, from "0000000000000001" on"#,
        ),
        (
            r#"{"from":22"#,
            r#"{"from":0"#,
            "line 6: `stream.lineage` is from 0 and then from 0; the first span begins at 0, and each other one behind the one before it",
        ),
        (
            r#"{"from":22"#,
            r#"{"from":34"#,
            "line 6: `stream.lineage[1].from` is 34; it cannot be beyond the tail, which is 33",
        ),
        (
            r#""id":"worker-1""#,
            r#""id":"""#,
            r#"line 2: `stream.producers[0].id` is ""; a producer's id has from 1 to 256 bytes"#,
        ),
        (
            r#""id":"worker-2""#,
            r#""id":"worker-1""#,
            r#"line 2: `stream.producers[1].id` is "worker-1"; another one before it has the same; a producer stands there once"#,
        ),
        (
            r#""epoch":0"#,
            r#""epoch":9007199254740992"#,
            "line 2: `stream.producers[0].epoch` is 9007199254740992; it is at most 9007199254740991",
        ),
        (
            r#""seq":3"#,
            r#""seq":9007199254740992"#,
            "line 2: `stream.producers[0].seq` is 9007199254740992; it is at most 9007199254740991",
        ),
        (
            r#""end":22"#,
            r#""end":55"#,
            "line 2: `stream.producers[0].end` is 55; it cannot be beyond the tail, which is 54",
        ),
        (
            r#""fork":{"source":"runs/1""#,
            r#""fork":{"source":"""#,
            r#"line 6: `stream.requested.fork.source` is ""; the stream name is empty; put a name after the stream root"#,
        ),
        (
            r#""0000000000000005_0000000000000011""#,
            r#""now""#,
            r#"line 6: `stream.requested.fork.offset` is "now"; an offset is sixteen digits, `_`, and sixteen digits"#,
        ),
        (
            r#""source":{"id":"0000000000000005""#,
            r#""source":{"id":"""#,
            r#"line 6: `stream.source.id` is ""; an id is sixteen digits, from "0000000000000001" on"#,
        ),
        (
            r#""name":"runs/1","point""#,
            r#""name":"../1","point""#,
            r#"line 6: `stream.source.name` is "../1"; the stream name has a `.` or `..` segment; write the path out"#,
        ),
        (
            r#""point":22"#,
            r#""point":34"#,
            "line 6: `stream.source.point` is 34; it cannot be beyond the tail, which is 33",
        ),
    ]);
}

#[test]
fn appends_that_do_not_follow_or_cannot_be_are_refused() {
    check(&[
        (
            r#""start":11"#,
            r#""start":10000000000000000"#,
            "line 3: `append.start` is 10000000000000000; a position is at most 9999999999999999",
        ),
        (
            r#""start":11"#,
            r#""start":12"#,
            "line 3: `append.start` is 12; the first append begins at 11, where the stream's own oldest byte is",
        ),
        (
            r#""start":22"#,
            r#""start":21"#,
            "line 4: `append.start` is 21; the append before it ends at 22: lines are missing or changed",
        ),
        (
            r#""first_message":1"#,
            r#""first_message":12"#,
            "line 3: `append.first_message` is 12; before byte 11 (`append.start`) are at most as many messages",
        ),
        (
            r#""first_message":2"#,
            r#""first_message":3"#,
            "line 4: `append.first_message` is 3; there are 2 messages before it: lines are missing or changed",
        ),
        (
            r#""text":"{\"step\":2},""#,
            r#""text":"""#,
            "line 3: `append.text` is empty; an append has at least one byte; leave the line out, also in the counts of `end`",
        ),
        (
            r#","text":"{\"step\":2},""#,
            "",
            "line 3: `append.text` is missing, as `append.base64` is; give the bytes in one of them",
        ),
        (
            r#""text":"{\"step\":2},""#,
            r#""text":"{\"step\":2},","base64":"AA==""#,
            "line 3: `append.text` is there beside `append.base64`; leave one of them out",
        ),
        (
            r#""text":"{\"step\":2},""#,
            r#""text":"{\"step\":2}""#,
            r#"line 3: `append.text` is "{\"step\":2}" at byte 0; a message of a JSON stream is one JSON value without line breaks and without white space around it, and a comma"#,
        ),
        (
            r#""text":"{\"step\":2},""#,
            r#""text":"{\"step\":},""#,
            r#"line 3: `append.text` is "{\"step\":}," at byte 0; a message of a JSON stream is one JSON value without line breaks and without white space around it, and a comma"#,
        ),
        (
            r#""text":"{\"step\":2},""#,
            r#""text":" {\"step\":2},""#,
            r#"line 3: `append.text` is " {\"step\":2}," at byte 0; a message of a JSON stream is one JSON value without line breaks and without white space around it, and a comma"#,
        ),
        (
            r#""text":"{\"step\":2},""#,
            r#""text":"{\n},""#,
            r#"line 3: `append.text` is "{\n}," at byte 0; a message of a JSON stream is one JSON value without line breaks and without white space around it, and a comma"#,
        ),
        (
            "[11,21]",
            "[11,20]",
            "line 4: `append.lengths` is 31 bytes in all; the append has 32; give the length of each message in bytes of UTF-8",
        ),
        (
            "[11,21]",
            "[11,0,21]",
            "line 4: `append.lengths[1]` is 0; a message has at least one byte; leave it out",
        ),
        (
            "[11,21]",
            "[]",
            "line 4: `append.lengths` is 0 bytes in all; the append has 32; give the length of each message in bytes of UTF-8",
        ),
        (
            "[11,21]",
            "[12,20]",
            r#"line 4: `append.text` is "{\"step\":3},{" at byte 0; a message of a JSON stream is one JSON value without line breaks and without white space around it, and a comma"#,
        ),
        (
            r#""base64":"iVBORw0KGgo=""#,
            r#""lengths":[4,4],"base64":"iVBORw0KGgo=""#,
            "line 11: `append.lengths` is 2 messages; an append is one message unless the stream's content type is application/json; leave it out",
        ),
        (
            r#""base64":"iVBORw0KGgo=""#,
            r#""base64":"iVBORw0KGgoK""#,
            "line 11: `append.start` is 0 and has 9 bytes behind it; they cannot be beyond the tail, which is 8",
        ),
    ]);
}
