//! stdout as the end of a pipe: data only, whole messages, and out at once where somebody waits for them.

use std::io::{self, BufWriter, Write};

use serde_json::Value;
use serde_json::value::RawValue;

use super::error::CommandError;

/// Where data goes.
pub(super) struct Output {
    writer: BufWriter<Box<dyn Write>>,
}

impl Output {
    pub(super) fn to_stdout() -> Self {
        Self {
            writer: BufWriter::with_capacity(64 << 10, Box::new(io::stdout())),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), CommandError> {
        self.writer
            .write_all(bytes)
            .map_err(|source| CommandError::Output { source })
    }

    pub(super) fn line(&mut self, text: &str) -> Result<(), CommandError> {
        self.write(text.as_bytes())?;
        self.write(b"\n")
    }

    /// Prints a JSON array's elements, one a line.
    pub(super) fn messages(&mut self, array: &[u8]) -> Result<(), CommandError> {
        let messages: Vec<&RawValue> =
            serde_json::from_slice(array).map_err(|source| CommandError::BadMessages { source })?;
        messages
            .into_iter()
            .try_for_each(|message| self.line(&one_line(message.get())))
    }

    pub(super) fn flush(&mut self) -> Result<(), CommandError> {
        self.writer
            .flush()
            .map_err(|source| CommandError::Output { source })
    }
}

/// A value as [`cell_of`] shows texts, without quotes.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => cell_of(text),
        other => other.to_string(),
    }
}

/// A text without what would steer a terminal or end a cell.
pub(super) fn cell_of(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

/// Line breaks in JSON stand between tokens only (strings escape them), so they can go without a trace.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], "")
}

#[cfg(test)]
mod tests {
    use std::io::{self, BufWriter, Write};
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::{CommandError, Output};

    struct Pipe(Sender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .send(bytes.to_vec())
                .map_err(|gone| io::Error::new(io::ErrorKind::BrokenPipe, gone))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pipe() -> (Output, Receiver<Vec<u8>>) {
        let (sender, receiver) = channel();
        (
            Output {
                writer: BufWriter::new(Box::new(Pipe(sender))),
            },
            receiver,
        )
    }

    #[test]
    fn messages_come_one_a_line_whatever_their_own_layout() {
        let (mut output, receiver) = pipe();
        output
            .messages(b"[{\"a\":\r\n  1}, [1,\n2], \"x\\ny\", 1.10]")
            .expect("an array");
        output.messages(b"[]").expect("an array");
        output.flush().expect("the pipe is open");
        drop(output);
        let printed: Vec<u8> = receiver.iter().flatten().collect();
        assert_eq!(
            String::from_utf8_lossy(&printed),
            "{\"a\":  1}\n[1,2]\n\"x\\ny\"\n1.10\n"
        );
    }

    #[test]
    fn what_is_no_array_is_an_error() {
        let (mut output, _receiver) = pipe();
        assert!(matches!(
            output.messages(b"{}"),
            Err(CommandError::BadMessages { .. })
        ));
    }

    #[test]
    fn a_reader_that_went_away_is_a_broken_pipe() {
        let (mut output, receiver) = pipe();
        drop(receiver);
        output.line("x").expect("buffered");
        assert!(output.flush().expect_err("nobody reads").is_broken_pipe());
    }
}
