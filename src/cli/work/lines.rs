//! What a program writes, cut into lines, and the line that is to be the result.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// A longer line becomes several.
const LINE_BYTES_MAX: usize = 64 << 10;
/// A longer line is no result: with what goes along it has to fit into the largest call that servers take by default.
pub(super) const RESULT_BYTES_MAX: usize = 512 << 10;
/// What a program has started may hold its pipes; they are waited for so long once the program has ended.
const PIPES_PATIENCE: Duration = Duration::from_secs(2);
/// The most that a program can have left in a pipe (`/proc/sys/fs/pipe-max-size`).
const PIPE_BYTES_MAX: usize = 1 << 20;

/// A line of a program, without its break.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) stream: &'static str,
    pub(super) text: String,
}

/// The last line that is JSON.
#[derive(Debug, Default)]
pub(super) enum LastJson {
    /// There was none, or nobody wants it.
    #[default]
    None,
    /// The line.
    Line(Box<RawValue>),
    /// It looks like JSON, and has more than [`RESULT_BYTES_MAX`] bytes.
    TooLong,
}

/// When a program has ended, for those who read what it has left.
#[derive(Debug, Clone)]
pub(super) struct ProgramEnd(watch::Sender<Option<Instant>>);

impl ProgramEnd {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// It has ended now. Answers with when its pipes are not waited for any longer.
    pub(super) fn is_now(&self) -> Instant {
        let given_up_at = Instant::now() + PIPES_PATIENCE;
        self.0.send_replace(Some(given_up_at));
        given_up_at
    }

    fn is_long_ago(&self) -> bool {
        self.0
            .borrow()
            .is_some_and(|given_up_at| Instant::now() >= given_up_at)
    }

    async fn becomes_long_ago(&self) {
        let mut end = self.0.subscribe();
        let given_up_at = end.wait_for(Option::is_some).await.map(|end| *end);
        // The sender lives as long as this.
        if let Ok(Some(given_up_at)) = given_up_at {
            tokio::time::sleep_until(given_up_at).await;
        }
    }
}

/// Reads lines until the pipe ends. Once the program has ended, all is read that it has left there, however long `lines` are
/// in taking it; but what it has started is not waited for long, nor listened to for ever.
pub(super) async fn read_lines(
    pipe: impl AsyncRead + Unpin,
    stream: &'static str,
    lines: mpsc::Sender<Line>,
    wants_result: bool,
    end: ProgramEnd,
) -> LastJson {
    let mut pipe = BufReader::new(pipe);
    let mut splitter = Splitter::new(wants_result);
    let mut late_bytes = 0;
    loop {
        let piece = tokio::select! {
            // What is there goes before any deadline.
            biased;
            piece = pipe.fill_buf() => piece.unwrap_or_default(),
            () = end.becomes_long_ago() => &[],
        };
        let length = piece.len();
        if end.is_long_ago() {
            late_bytes += length;
        }
        if length == 0 || late_bytes > PIPE_BYTES_MAX {
            break;
        }
        let texts = splitter.take(piece);
        pipe.consume(length);
        for text in texts {
            if lines.send(Line { stream, text }).await.is_err() {
                return LastJson::None;
            }
        }
    }
    let (text, last) = splitter.end();
    if let Some(text) = text {
        // Nobody is there any more if the lease is lost.
        let _ = lines.send(Line { stream, text }).await;
    }
    last
}

/// Cuts pieces, which may end anywhere, into lines.
struct Splitter {
    /// The end of the line that has begun, as far as it was not handed out.
    part: Vec<u8>,
    /// All of that line, if it may become the result, up to a byte more than that may have.
    whole: Option<Vec<u8>>,
    last: LastJson,
}

impl Splitter {
    fn new(wants_result: bool) -> Self {
        Self {
            part: Vec::new(),
            whole: wants_result.then(Vec::new),
            last: LastJson::None,
        }
    }

    /// The lines, and parts of long lines, that end with this piece.
    fn take(&mut self, mut piece: &[u8]) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(end) = memchr::memchr(b'\n', piece) {
            self.extend(&piece[..end], &mut texts);
            texts.push(text(&std::mem::take(&mut self.part)));
            self.judge();
            piece = &piece[end + 1..];
        }
        self.extend(piece, &mut texts);
        texts
    }

    /// The last line, if it has no break, and the last one that is JSON.
    fn end(mut self) -> (Option<String>, LastJson) {
        self.judge();
        let last_text = (!self.part.is_empty()).then(|| text(&self.part));
        (last_text, self.last)
    }

    fn extend(&mut self, mut bytes: &[u8], texts: &mut Vec<String>) {
        if let Some(whole) = &mut self.whole {
            let room = RESULT_BYTES_MAX + 1 - whole.len();
            whole.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        while self.part.len() + bytes.len() > LINE_BYTES_MAX {
            let (fitting, rest) = bytes.split_at(LINE_BYTES_MAX - self.part.len());
            self.part.extend_from_slice(fitting);
            let begun = self.part.split_off(whole_characters(&self.part));
            texts.push(text(&self.part));
            self.part = begun;
            bytes = rest;
        }
        self.part.extend_from_slice(bytes);
    }

    /// Looks at a line that has ended.
    fn judge(&mut self) {
        let Some(whole) = &mut self.whole else {
            return;
        };
        if whole.len() > RESULT_BYTES_MAX {
            if matches!(whole.trim_ascii_start().first(), Some(b'{' | b'[' | b'"')) {
                self.last = LastJson::TooLong;
            }
        } else if let Ok(json) = serde_json::from_str(&text(whole)) {
            self.last = LastJson::Line(json);
        }
        whole.clear();
    }
}

/// What is no UTF-8 is replaced.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How many of the bytes stand before a character of UTF-8 that is cut off by their end.
fn whole_characters(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let at = bytes.len() - back;
        let needed = match bytes[at] {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            0x80..=0xbf => continue,
            _ => 1,
        };
        return if needed > back { at } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    const LINES_WAITING_MAX: usize = 4;

    /// All lines of a text that comes in pieces, and what would become the result.
    fn split(text: &[u8], piece_bytes: usize) -> (Vec<String>, LastJson) {
        let mut splitter = Splitter::new(true);
        let mut lines: Vec<_> = text
            .chunks(piece_bytes)
            .flat_map(|piece| splitter.take(piece))
            .collect();
        let (text, last) = splitter.end();
        lines.extend(text);
        (lines, last)
    }

    fn json(last: &LastJson) -> Option<&str> {
        match last {
            LastJson::Line(json) => Some(json.get()),
            LastJson::None | LastJson::TooLong => None,
        }
    }

    #[test]
    fn lines_lose_their_breaks_and_what_is_no_utf8_and_the_last_json_is_kept() {
        for piece_bytes in [1, 7, 1_000] {
            let (lines, last) = split(b"one\n\n{\"a\": 1}\n[2]\ntwo \xff\nlast", piece_bytes);
            assert_eq!(lines, ["one", "", "{\"a\": 1}", "[2]", "two \u{fffd}", "last"]);
            assert_eq!(json(&last), Some("[2]"));
        }
        let (lines, last) = split(b"[1]\n{\"r\":1}", 3);
        assert_eq!(
            (lines.len(), json(&last)),
            (2, Some("{\"r\":1}")),
            "it needs no break"
        );
        assert!(split(b"", 1).0.is_empty());
    }

    #[test]
    fn a_line_that_is_too_long_becomes_several() {
        for (bytes, lengths) in [
            (LINE_BYTES_MAX, vec![LINE_BYTES_MAX]),
            (2 * LINE_BYTES_MAX + 1, vec![LINE_BYTES_MAX, LINE_BYTES_MAX, 1]),
        ] {
            let long = [vec![b'x'; bytes], b"\n".to_vec()].concat();
            let (lines, _) = split(&long, 1_000);
            assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), lengths);
        }
    }

    #[test]
    fn no_character_is_cut_in_two() {
        for character in ["ü", "€", "🦆"] {
            for shift in 0..character.len() {
                let long = "x".repeat(shift) + &character.repeat(LINE_BYTES_MAX);
                let (lines, _) = split(long.as_bytes(), 4_096);
                assert!(lines.len() > 1 && lines.iter().all(|line| line.len() <= LINE_BYTES_MAX));
                assert_eq!(lines.concat(), long);
            }
        }
        let broken = [vec![b'x'; LINE_BYTES_MAX - 1], vec![0x80; 9]].concat();
        let (lines, _) = split(&broken, 4_096);
        assert_eq!(
            lines.concat().matches('\u{fffd}').count(),
            9,
            "it never was UTF-8"
        );
    }

    #[test]
    fn a_result_may_be_longer_than_a_line_and_has_a_limit() {
        let array = |bytes: usize| format!("[\"{}\"]", "x".repeat(bytes - 4));
        let longest = array(RESULT_BYTES_MAX);
        let (lines, last) = split(format!("[1]\n{longest}\n").as_bytes(), 5_000);
        assert_eq!(json(&last), Some(longest.as_str()));
        assert_eq!(lines[1..].concat(), longest);
        let too_long = format!("[1]\n{}\n", array(RESULT_BYTES_MAX + 1));
        assert!(
            matches!(split(too_long.as_bytes(), 5_000).1, LastJson::TooLong),
            "an earlier line would be the wrong result"
        );
        let (_, last) = split(format!("{too_long}[2]").as_bytes(), 5_000);
        assert_eq!(json(&last), Some("[2]"), "a later one is right");
        let (_, last) = split(
            format!("[1]\n{}", "x".repeat(RESULT_BYTES_MAX + 1)).as_bytes(),
            5_000,
        );
        assert_eq!(json(&last), Some("[1]"), "a long text is no JSON");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_program_has_left_is_read_however_slowly_it_is_taken() {
        let (mut program, pipe) = tokio::io::duplex(64 << 10);
        let (sender, mut receiver) = mpsc::channel(LINES_WAITING_MAX);
        let end = ProgramEnd::new();
        let reader = tokio::spawn(read_lines(pipe, "stdout", sender, true, end.clone()));
        for number in 0..1_000 {
            program
                .write_all(format!("{number}\n").as_bytes())
                .await
                .expect("there is room");
        }
        // Something that the program has started holds the pipe.
        program.write_all(b"[1]").await.expect("there is room");
        end.is_now();
        let mut count = 0;
        while let Some(line) = receiver.recv().await {
            tokio::time::sleep(PIPES_PATIENCE).await;
            let expected = if count < 1_000 {
                count.to_string()
            } else {
                "[1]".to_owned()
            };
            assert_eq!(line.text, expected);
            count += 1;
        }
        assert_eq!(count, 1_001);
        assert_eq!(json(&reader.await.expect("it does not panic")), Some("[1]"));
        drop(program);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_program_has_started_is_not_listened_to_for_ever() {
        let (mut left_behind, pipe) = tokio::io::duplex(64 << 10);
        let (sender, mut receiver) = mpsc::channel(LINES_WAITING_MAX);
        let end = ProgramEnd::new();
        tokio::spawn(read_lines(pipe, "stdout", sender, false, end.clone()));
        let line = [vec![b'x'; 999], b"\n".to_vec()].concat();
        tokio::spawn(async move { while left_behind.write_all(&line).await.is_ok() {} });
        tokio::spawn(async move {
            tokio::time::sleep(PIPES_PATIENCE).await;
            end.is_now();
        });
        let mut count = 0;
        // Each line takes a while, so that there is always something to read.
        while receiver.recv().await.is_some() {
            count += 1;
            assert!(count < 10_000, "it never ends");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
