//! A request that came whole, in as many bytes as were read at once. Pure: knows no sockets.
//!
//! Only what leaves no question is taken for one: what is refused here is no error, but hyper's to read. Where one
//! request ends and the next begins must never be a matter of opinion between the two, so the length of the body is taken
//! from one `Content-Length` alone, and a request that speaks of any other way to tell is left to hyper.

use std::borrow::Cow;
use std::mem::MaybeUninit;

#[cfg(feature = "otlp")]
use http::Version;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::http::{Fields, RequestHead};

/// Requests with more are left to hyper, which has a limit of its own.
const FIELDS_MAX: usize = 32;

/// Room for the fields of a head.
pub(super) type Room<'b> = [MaybeUninit<httparse::Header<'b>>; FIELDS_MAX];

/// No field yet.
pub(super) const fn room<'b>() -> Room<'b> {
    [const { MaybeUninit::uninit() }; FIELDS_MAX]
}

/// A POST of HTTP/1.1.
#[derive(Debug)]
pub(super) struct WholePost<'b> {
    path: &'b str,
    fields: &'b [httparse::Header<'b>],
    pub(super) body: &'b [u8],
}

impl<'b> WholePost<'b> {
    /// What these bytes are, if they are all of one such request and nothing else.
    pub(super) fn decode(bytes: &'b [u8], room: &'b mut Room<'b>, head_bytes_max: usize) -> Option<Self> {
        let mut head = httparse::Request::new(&mut []);
        let parsed = head.parse_with_uninit_headers(bytes, room).ok()?;
        let httparse::Status::Complete(head_bytes) = parsed else {
            return None;
        };
        let path = head.path?;
        let is_plain = head.method == Some("POST") && head.version == Some(1) && is_plain_path(path);
        if !is_plain || head_bytes > head_bytes_max {
            return None;
        }
        let body = &bytes[head_bytes..];
        let fields: &'b [_] = head.headers;
        has_that_body(fields, body.len()).then_some(Self { path, fields, body })
    }
}

/// Whether it is a path and nothing else, in characters that need no look.
fn is_plain_path(path: &str) -> bool {
    path.starts_with('/')
        && path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte))
}

/// Whether fields say just once that a body of so many bytes follows, and ask nothing of the connection.
fn has_that_body(fields: &[httparse::Header<'_>], bytes: usize) -> bool {
    let mut is_told = false;
    for field in fields {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        let is_plain = match field.name.len() {
            6 => !is("expect"),
            7 => !is("upgrade"),
            10 => !is("connection") || field.value.eq_ignore_ascii_case(b"keep-alive"),
            14 if is("content-length") => {
                let is_first = !std::mem::replace(&mut is_told, true);
                is_first && decimal(field.value) == Some(bytes)
            }
            17 => !is("transfer-encoding"),
            _ => true,
        };
        if !is_plain {
            return false;
        }
    }
    is_told
}

/// A number in digits alone.
fn decimal(text: &[u8]) -> Option<usize> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = is_number.then(|| std::str::from_utf8(text).ok())??;
    text.parse().ok()
}

impl Fields for WholePost<'_> {
    fn each(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| (field.name, field.value))
    }
}

impl RequestHead for WholePost<'_> {
    fn method(&self) -> &Method {
        &Method::POST
    }

    fn path(&self) -> &str {
        self.path
    }

    #[cfg(feature = "otlp")]
    fn version(&self) -> Version {
        Version::HTTP_11
    }

    fn fields(&self) -> &impl Fields {
        self
    }

    fn map(&self) -> Cow<'_, HeaderMap> {
        let field = |field: &httparse::Header<'_>| {
            let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(field.value).ok()?))
        };
        let mut map = HeaderMap::with_capacity(self.fields.len());
        for (name, value) in self.fields.iter().filter_map(field) {
            map.append(name, value);
        }
        Cow::Owned(map)
    }
}

#[cfg(test)]
mod tests;
