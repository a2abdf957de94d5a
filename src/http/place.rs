//! Where a read begins: a stream, a snapshot of it, and a position.

use tailwater_storage::engine::{Reader, View};
use tailwater_storage::stream::{Offset, OffsetToken, Position, StreamName};

use super::App;
use super::error::Problem;

/// A stream that is read, from a position, as it was at one moment. One snapshot serves body and headers.
pub(crate) struct Place {
    pub(crate) reader: Reader,
    pub(crate) view: View,
    pub(crate) from: Position,
    /// The token that the client gave, if it was one.
    pub(crate) asked: Option<OffsetToken>,
}

impl Place {
    pub(crate) async fn find(app: &App, name: &StreamName, offset: Option<Offset>) -> Result<Self, Problem> {
        let reader = app.engine.reader(name).await?;
        let view = reader.incarnation().view();
        let offset = offset.unwrap_or(Offset::Start);
        let from = reader.resolve(offset, &view).await??;
        let asked = match offset {
            Offset::At(token) => Some(token),
            Offset::Start | Offset::Now => None,
        };
        Ok(Self {
            reader,
            view,
            from,
            asked,
        })
    }

    pub(crate) fn token(&self, position: Position) -> OffsetToken {
        self.reader.incarnation().token(position)
    }
}
