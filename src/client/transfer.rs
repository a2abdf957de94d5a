//! Exports and imports streams with all that is known of them. Not every server can.

use std::io;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::TryStreamExt as _;
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;

use super::connection::Client;
use super::error::ClientError;

/// An export under way.
#[derive(Debug)]
pub struct Export<'c> {
    client: &'c Client,
    body: Incoming,
}

impl Client {
    /// Begins an export of the streams whose names begin with `prefix`.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses.
    pub async fn export(&self, prefix: &str) -> Result<Export<'_>, ClientError> {
        let request = self.request(Method::GET, "__ds/export", "export streams".to_owned());
        let body = request.query(&[("prefix", prefix)]).send().await?.into_body();
        Ok(Export { client: self, body })
    }

    /// Imports what an export gave. Answers the server's report, a JSON object.
    ///
    /// # Errors
    /// [`ClientError`] if the server refuses, or if a piece cannot be had.
    pub async fn import(
        &self,
        pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        replaces: bool,
    ) -> Result<Bytes, ClientError> {
        let existing = if replaces { "replace" } else { "refuse" };
        let request = self.request(Method::POST, "__ds/import", "import streams".to_owned());
        let response = request
            .query(&[("existing", existing)])
            .header("content-type", "application/x-ndjson")?
            .long_body(StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync())
            .send()
            .await?;
        self.collect(response.into_body()).await
    }
}

impl Export<'_> {
    /// The next piece; none after the last one. Only the last line tells whether all of it came.
    ///
    /// # Errors
    /// [`ClientError`] if the connection is lost.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        self.client.next_piece(&mut self.body).await
    }
}
