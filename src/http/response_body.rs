//! The bodies of answers. Large ones go out in pieces that are never copied on the way.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};

use super::sse::Subscriber;

/// The body of an answer.
#[derive(Default)]
pub(crate) enum ResponseBody {
    /// None.
    #[default]
    Empty,
    /// One piece.
    Whole(Bytes),
    /// Several pieces, and how many bytes are left in them.
    Pieces(VecDeque<Bytes>, u64),
    /// A subscription to events. A connection may take it over, or serve it as [`Self::Live`].
    Subscribed(Box<Subscriber>),
    /// Pieces that are made as they are asked for, without an end that is known.
    Live(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
    /// What the router of the side paths made.
    Side(axum::body::Body),
}

impl ResponseBody {
    /// A body of pieces that are there.
    pub(crate) fn pieces(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let mut pieces: VecDeque<_> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        match pieces.len() {
            0 => Self::Empty,
            1 => Self::Whole(pieces.pop_front().expect("one piece")),
            _ => {
                let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
                Self::Pieces(pieces, bytes)
            }
        }
    }
}

impl From<Vec<u8>> for ResponseBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(bytes.into())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let data = |bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                data(bytes)
            }
            Self::Pieces(pieces, left) => match pieces.pop_front() {
                Some(piece) => {
                    *left -= piece.remaining() as u64;
                    data(piece)
                }
                None => Poll::Ready(None),
            },
            Self::Subscribed(_) => {
                if let Self::Subscribed(subscriber) = std::mem::take(&mut *self) {
                    *self = Self::Live(Box::pin(subscriber.frames()));
                }
                self.poll_frame(context)
            }
            Self::Live(stream) => stream
                .as_mut()
                .poll_next(context)
                .map(|piece| piece.map(|piece| Ok(Frame::data(piece)))),
            Self::Side(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Pieces(pieces, _) => pieces.is_empty(),
            Self::Subscribed(_) | Self::Live(_) => false,
            Self::Side(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Pieces(_, left) => SizeHint::with_exact(*left),
            Self::Subscribed(_) | Self::Live(_) => SizeHint::default(),
            Self::Side(body) => body.size_hint(),
        }
    }
}
