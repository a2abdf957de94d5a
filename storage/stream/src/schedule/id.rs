//! Names of schedules. Knows nothing of what they do.

use std::fmt;
use std::sync::Arc;

use crate::name::StreamName;
use crate::subscription::IdRefusal;
use crate::subscription::id::check;

/// A schedule's id, chosen by the client: one segment of a path. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScheduleId(Arc<str>);

impl ScheduleId {
    /// Checks a decoded segment and makes it an id. The rules are those of the ids of subscriptions.
    ///
    /// # Errors
    /// An [`IdRefusal`] that says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, IdRefusal> {
        check(text).map(|()| Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hidden stream that holds what is known of the schedule.
    pub fn stream(&self) -> StreamName {
        StreamName::of_schedule(self)
    }
}

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}
