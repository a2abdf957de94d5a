//! Reads what a stream has, page by page, and stops where it ends for now.

use bytes::Bytes;
use http::Method;
use http::header::CONTENT_TYPE;

use super::View;
use super::connection::{Client, header_text, is_true};
use super::error::ClientError;

/// A part of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The content type of `body`.
    pub content_type: String,
    /// May be empty (or an empty JSON array) at the tail.
    pub body: Bytes,
    /// Where the next page begins.
    pub next_offset: String,
    /// There was nothing beyond this page.
    pub up_to_date: bool,
    /// There will never be anything beyond this page.
    pub closed: bool,
}

/// A read under way.
#[derive(Debug)]
pub struct CatchUp<'c> {
    client: &'c Client,
    name: String,
    offset: String,
    view: View,
    is_over: bool,
}

impl Client {
    /// One page of a stream from `offset`, which may be `-1` (the beginning) or `now` (the tail).
    pub async fn read_page(&self, name: &str, offset: &str, view: View) -> Result<Page, ClientError> {
        let mut parameters = vec![("offset", offset)];
        if view == View::Records {
            parameters.push(("view", "records"));
        }
        let request = self.stream_request(Method::GET, name, format!("read `{name}`"));
        let (head, body) = request.query(&parameters).send().await?.into_parts();
        let content_type = header_text(&head.headers, CONTENT_TYPE.as_str())
            .unwrap_or_default()
            .to_owned();
        if view == View::Records && !content_type.starts_with("application/x-ndjson") {
            return Err(self.unsupported("record view (view=records)"));
        }
        let closed = is_true(&head.headers, "stream-closed");
        Ok(Page {
            content_type,
            next_offset: self.next_offset(&head.headers)?,
            up_to_date: closed || is_true(&head.headers, "stream-up-to-date"),
            closed,
            body: self.collect(body).await?,
        })
    }

    /// All pages from `offset` to the tail.
    pub fn catch_up(&self, name: &str, offset: &str, view: View) -> CatchUp<'_> {
        CatchUp {
            client: self,
            name: name.to_owned(),
            offset: offset.to_owned(),
            view,
            is_over: false,
        }
    }
}

impl CatchUp<'_> {
    /// The next page, or none after the one that was up to date. After an error, the same page is asked for
    /// again.
    pub async fn next_page(&mut self) -> Result<Option<Page>, ClientError> {
        if self.is_over {
            return Ok(None);
        }
        let page = self.client.read_page(&self.name, &self.offset, self.view).await?;
        if !page.up_to_date && page.next_offset == self.offset {
            return Err(self
                .client
                .unexpected("a page that ends where it began, yet is not the last"));
        }
        self.is_over = page.up_to_date;
        self.offset.clone_from(&page.next_offset);
        Ok(Some(page))
    }
}
