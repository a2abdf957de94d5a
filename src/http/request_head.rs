//! The head of a request, whoever has read it: hyper, or the server itself where all of the request came at once.

use std::borrow::Cow;

#[cfg(feature = "otlp")]
use http::Version;
use http::{HeaderMap, HeaderName, Method, Request};

/// The fields of a head.
pub(crate) trait Fields {
    /// All of them, with their names in any case.
    fn each(&self) -> impl Iterator<Item = (&str, &[u8])>;

    /// The values of one, in their order.
    fn values<'h>(&'h self, name: &'h HeaderName) -> impl Iterator<Item = &'h [u8]> {
        let of_that_name = move |(other, value): (&'h str, &'h [u8])| {
            other.eq_ignore_ascii_case(name.as_str()).then_some(value)
        };
        self.each().filter_map(of_that_name)
    }
}

impl Fields for HeaderMap {
    fn each(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    fn values<'h>(&'h self, name: &'h HeaderName) -> impl Iterator<Item = &'h [u8]> {
        self.get_all(name).iter().map(http::HeaderValue::as_bytes)
    }
}

/// The head of a request.
pub(crate) trait RequestHead {
    /// What is to be done.
    fn method(&self) -> &Method;
    /// What it is to be done with.
    fn path(&self) -> &str;
    /// The HTTP that it speaks.
    #[cfg(feature = "otlp")]
    fn version(&self) -> Version;
    /// What is said of it.
    fn fields(&self) -> &impl Fields;
    /// The fields in a map, which some heads have to make first.
    fn map(&self) -> Cow<'_, HeaderMap>;
}

impl<B> RequestHead for Request<B> {
    fn method(&self) -> &Method {
        Self::method(self)
    }

    fn path(&self) -> &str {
        self.uri().path()
    }

    #[cfg(feature = "otlp")]
    fn version(&self) -> Version {
        Self::version(self)
    }

    fn fields(&self) -> &impl Fields {
        self.headers()
    }

    fn map(&self) -> Cow<'_, HeaderMap> {
        Cow::Borrowed(self.headers())
    }
}
