//! Short ways to ask an engine, and to look at a future that must wait.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tailwater_storage::clock::ManualClock;
use tailwater_storage::engine::{AppendError, AppendRequest, Appended, CreateError, Created, Reader};
use tailwater_storage::stream::{
    ContentType, CreateCommand, Epoch, ForkRequest, Lifetime, NameLimits, OffsetToken, Position, ProducerId,
    ProducerMark, Seq, StreamName,
};
use tailwater_storage::{Backend, Engine, EngineLimits};

use super::gated::PATIENCE;

pub(crate) fn name(text: &str) -> StreamName {
    StreamName::parse(text, NameLimits::default()).expect("a name")
}

pub(crate) fn at(number: u64) -> Position {
    Position::new(number).expect("a position")
}

pub(crate) fn content_type(text: &str) -> ContentType {
    ContentType::parse(text).expect("a content type")
}

pub(crate) fn json() -> ContentType {
    content_type("application/json")
}

pub(crate) fn producer(id: &str, epoch: u64, seq: u64) -> ProducerMark {
    ProducerMark {
        id: ProducerId::parse(id).expect("an id"),
        epoch: Epoch::new(epoch).expect("an epoch"),
        seq: Seq::new(seq).expect("a number"),
    }
}

/// Runs a test to its end, or fails it if it hangs.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime can be made");
    let finished = runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await });
    assert!(finished.is_ok(), "the test hangs");
}

/// An engine, and the clock it goes by.
pub(crate) struct Rig {
    pub(crate) engine: Engine,
    pub(crate) clock: Arc<ManualClock>,
}

/// When every test's clock starts: one million seconds after the epoch.
pub(crate) const START_MS: u64 = 1_000_000_000;

impl Rig {
    pub(crate) fn over(backend: Arc<dyn Backend>) -> Self {
        Self::limited(backend, EngineLimits::default())
    }

    pub(crate) fn limited(backend: Arc<dyn Backend>, limits: EngineLimits) -> Self {
        let clock = Arc::new(ManualClock::at_millis(START_MS));
        let time: Arc<dyn tailwater_storage::clock::Clock> = Arc::<ManualClock>::clone(&clock);
        let engine = Engine::start(backend, time, limits).expect("the backend can be read");
        Self { engine, clock }
    }

    pub(crate) async fn create(&self, stream: &str) -> Result<Created, CreateError> {
        self.create_with(stream, CreateCommand::default()).await
    }

    pub(crate) async fn create_with(
        &self,
        stream: &str,
        command: CreateCommand,
    ) -> Result<Created, CreateError> {
        self.engine.create(&name(stream), command).await
    }

    pub(crate) async fn create_json(&self, stream: &str) -> Created {
        let command = CreateCommand {
            content_type: Some(json()),
            ..CreateCommand::default()
        };
        self.create_with(stream, command).await.expect("created")
    }

    pub(crate) async fn create_living(&self, stream: &str, seconds: u64) -> Created {
        let command = CreateCommand {
            lifetime: Lifetime::Ttl { seconds },
            ..CreateCommand::default()
        };
        self.create_with(stream, command).await.expect("created")
    }

    pub(crate) async fn fork(&self, stream: &str, source: &str) -> Result<Created, CreateError> {
        self.create_with(stream, fork_of(source, None, 0)).await
    }

    pub(crate) async fn append(&self, stream: &str, body: &str) -> Result<Appended, AppendError> {
        self.engine.append(&name(stream), bytes(body)).await
    }

    pub(crate) async fn append_json(&self, stream: &str, body: &str) -> Appended {
        let request = AppendRequest {
            content_type: Some(json()),
            ..bytes(body)
        };
        self.engine
            .append(&name(stream), request)
            .await
            .expect("appended")
    }

    pub(crate) async fn close(&self, stream: &str) -> Result<Appended, AppendError> {
        let request = AppendRequest {
            closes: true,
            ..AppendRequest::default()
        };
        self.engine.append(&name(stream), request).await
    }

    pub(crate) async fn delete(&self, stream: &str) {
        self.engine.delete(&name(stream)).await.expect("deleted");
    }

    pub(crate) async fn trim(&self, stream: &str, position: u64) {
        let reader = self.look(stream).await;
        let token = reader.incarnation().token(at(position));
        drop(reader);
        self.engine.trim(&name(stream), token).await.expect("trimmed");
    }

    pub(crate) async fn look(&self, stream: &str) -> Reader {
        self.engine
            .look(&name(stream))
            .await
            .expect("the stream is there")
    }

    /// All that a reader sees of a stream.
    pub(crate) async fn text(&self, stream: &str) -> String {
        text_of(&self.look(stream).await).await
    }

    pub(crate) async fn sweep(&self) {
        self.engine.sweep().await.expect("the storage works");
    }

    pub(crate) fn usage(&self) -> (u64, u64) {
        let usage = self.engine.usage();
        (usage.streams, usage.bytes)
    }
}

/// A body of the default content type.
pub(crate) fn bytes(body: &str) -> AppendRequest {
    AppendRequest {
        body: Bytes::copy_from_slice(body.as_bytes()),
        content_type: Some(ContentType::default()),
        ..AppendRequest::default()
    }
}

pub(crate) fn fork_of(source: &str, offset: Option<OffsetToken>, sub_offset: u64) -> CreateCommand {
    CreateCommand {
        fork: Some(ForkRequest {
            source: name(source),
            offset,
            sub_offset,
        }),
        ..CreateCommand::default()
    }
}

/// All that a reader sees of its stream from its oldest position on.
pub(crate) async fn text_of(reader: &Reader) -> String {
    let view = reader.incarnation().view();
    let slices = reader.read(view.oldest, &view, u64::MAX).await.expect("readable");
    assert_eq!(slices.end, view.tail);
    String::from_utf8(slices.into_contiguous().to_vec()).expect("text")
}

/// Drives a future as far as it goes by itself; whether it is still not done.
pub(crate) async fn waits<T>(mut future: Pin<&mut impl Future<Output = T>>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

/// Waits for something that must come.
pub(crate) async fn until<F: Future<Output = bool>>(mut is_so: impl FnMut() -> F) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("it comes in time");
}
