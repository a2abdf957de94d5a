//! The rules of one durable stream: a pure state machine without IO, clock or async.
//!
//! A command meets a [`StreamState`] and becomes either a [`Transition`], which says everything that
//! changes, or a refusal that carries facts. Time comes in with the command. Nothing here knows HTTP,
//! threads or disks; the engine orders the commands and a backend keeps the transitions.
//!
//! | module | what stands there |
//! |---|---|
//! | [`name`] | [`StreamName`]: the path of a stream below the root, validated once |
//! | [`offset`] | [`StreamId`], [`Position`], [`OffsetToken`] and what a client may ask for as an offset |
//! | [`lineage`] | which incarnation owns which positions, and where their bytes are stored |
//! | [`content_type`] | the media type and what it means for message boundaries |
//! | [`json`] | how a JSON body becomes stored messages |
//! | [`producer`] | idempotent producers: epochs, sequence numbers, duplicates |
//! | [`rfc3339`] | the text of times |
//! | [`expiry`] | sliding and absolute lifetimes |
//! | [`fork`] | where a fork may branch off |
//! | [`kind`] | what a stream is for: runs are governed by the server |
//! | [`transition`] | what a record changes: the unit that backends commit and replay |
//! | [`command`] | what clients ask for, and why it may be refused |
//! | [`stream`] | [`StreamState`]: decides commands and applies transitions |
//! | [`schedule`] | [`Schedule`]: when messages are enqueued by a cron expression, each time once |
//! | [`subscription`] | [`Subscription`]: durable cursors that wake workers, by the same way of deciding |
//! | [`queue`] | [`Queue`]: jobs that are leased to workers, and the runs that tell what became of them |

pub mod command;
pub mod content_type;
pub mod expiry;
pub mod fork;
pub mod json;
pub mod kind;
pub mod lineage;
pub mod name;
pub mod offset;
pub mod producer;
pub mod queue;
pub mod rfc3339;
pub mod schedule;
pub mod stream;
pub mod subscription;
pub mod transition;

pub use command::{
    AppendCommand, AppendDecision, AppendRefusal, CreateCommand, CreateDecision, CreateRefusal,
    DeleteRefusal, EncodedBody, Limits, TrimDecision, TrimRefusal,
};
pub use content_type::{ContentKind, ContentType};
pub use expiry::{Lifetime, Timestamp};
pub use fork::{AppendExtent, ForkPoint, ForkRefusal, ForkRequest, ForkSource};
pub use kind::{LEASE_PRODUCER, LeaseRefusal, StreamKind};
pub use lineage::{Lineage, OffsetRefusal, Span};
pub use name::{NameLimits, NameRefusal, StreamName};
pub use offset::{Offset, OffsetToken, Position, StreamId};
pub use producer::{Epoch, ProducerId, ProducerMark, ProducerState, Producers, Seq};
pub use queue::{Queue, QueueConfig};
pub use schedule::{Schedule, ScheduleConfig, ScheduleId};
pub use stream::{CreateRequest, StreamState};
pub use subscription::{Subscription, SubscriptionConfig, SubscriptionId};
pub use transition::{Append, ControlChange, Created, MessageEnds, Part, Record, Transition};
