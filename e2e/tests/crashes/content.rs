//! What is written to streams: every append is unlike all others, whole and in each of its parts.

use std::fmt;

use tailwater_e2e::{Request, Response};

use crate::link::{Link, Token};

/// How a stream keeps what is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
}

/// One append: what is sent, and what the stream keeps of it.
#[derive(Clone)]
pub(crate) struct Batch {
    pub(crate) sent: Vec<u8>,
    pub(crate) kept: Vec<u8>,
    pub(crate) messages: u64,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {:?}…", self.sent.len(), beginning(&self.sent))
    }
}

/// Enough of an append to know it by.
pub(crate) fn beginning(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned()
}

impl Form {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain",
            Self::Json => "application/json",
        }
    }

    /// What a stream keeps, from the body of a read.
    #[track_caller]
    pub(crate) fn kept(self, body: &[u8]) -> Vec<u8> {
        match (self, body) {
            (Self::Text, text) => text.to_vec(),
            (Self::Json, b"[]") => Vec::new(),
            (Self::Json, [b'[', messages @ .., b']']) => [messages, b","].concat(),
            (Self::Json, other) => panic!("not an array: {:?}", String::from_utf8_lossy(other)),
        }
    }

    /// An append of that writer that there never was before, of any size up to more than a journal's.
    pub(crate) fn batch(self, writer: &str, number: u64, rng: &mut fastrand::Rng) -> Batch {
        let bytes = match rng.u32(..1000) {
            0..880 => rng.usize(20..400),
            880..985 => rng.usize(400..20_000),
            985..999 => rng.usize(20_000..200_000),
            _ => rng.usize(1_100_000..1_500_000),
        };
        match self {
            Self::Text => {
                let text = format!("<{writer} {number} {}>", filler(bytes, rng)).into_bytes();
                Batch {
                    kept: text.clone(),
                    sent: text,
                    messages: 1,
                }
            }
            Self::Json => {
                let count = rng.usize(1..6);
                let messages: Vec<String> = (0..count)
                    .map(|part| {
                        let filler = filler(bytes / count, rng);
                        format!(r#"{{"by":"{writer}","number":{number},"part":{part},"fill":"{filler}"}}"#)
                    })
                    .collect();
                let list = messages.join(",");
                let bare = count == 1 && rng.bool();
                Batch {
                    kept: format!("{list},").into_bytes(),
                    sent: if bare { list } else { format!("[{list}]") }.into_bytes(),
                    messages: count as u64,
                }
            }
        }
    }
}

fn filler(bytes: usize, rng: &mut fastrand::Rng) -> String {
    (0..bytes).map(|_| rng.lowercase()).collect()
}

/// What a stream holds from a place on, in as many answers as it takes; the tail comes with it.
#[track_caller]
pub(crate) fn read_on(link: &mut Link<'_>, name: &str, form: Form, from: &str) -> (Vec<u8>, Token) {
    let (mut kept, mut from) = (Vec::new(), from.to_owned());
    loop {
        let answer = read(link, name, &from).expect(200);
        kept.extend(form.kept(&answer.body));
        let next = Token::next(&answer);
        if answer.header("stream-up-to-date") == Some("true") {
            return (kept, next);
        }
        assert_ne!(next.text, from, "{name}: a read that gets nowhere");
        from = next.text;
    }
}

pub(crate) fn read(link: &mut Link<'_>, name: &str, from: &str) -> Response {
    let path = format!("{}?offset={from}", link.run.path(name));
    link.ask(&Request::new("GET", &path))
}
