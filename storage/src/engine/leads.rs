//! Names that lead to another partition, for streams that stand beside others there: led before a stream is made, and not
//! any more once it is gone, or was not made after all.
//!
//! Between the two nothing that is stored says that a lead is needed. So whoever leads a name holds it as long as a record
//! of the stream may still be queued; from then on the name's sequencer knows of it, and then the backend.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tailwater_stream::{StreamId, StreamName};

use super::leftovers::Leftover;
use super::{Engine, EngineError, Shared};
use crate::backend::{Backend, BackendError};
use crate::sync::{Mutex, RwLock};

/// After so many sweeps it is known which prefixes are still used: whoever does leads them when it is opened.
const SETTLED_AFTER_SWEEPS: u32 = 60;
/// Prefixes that cease to lead in one sweep.
const PREFIXES_MAX: usize = 16;

/// The names that are led for streams that may still be made.
#[derive(Default)]
pub(super) struct Leads {
    /// By how many.
    held: Mutex<HashMap<StreamName, usize, RandomState>>,
    /// Read while names are led, written while they cease to be: who leads one finds a lead that stays, or none.
    ceasing: RwLock<()>,
    /// Whether no prefix of an earlier run is left that nobody uses any more.
    is_tidy: AtomicBool,
}

/// Holds names that are led for streams that may still be made.
pub(super) struct Led {
    engine: Engine,
    names: Vec<StreamName>,
    /// Whether they are looked at again once this is dropped, for there may be no stream.
    may_be_left: bool,
}

impl Led {
    fn new(engine: &Engine, names: Vec<StreamName>) -> Self {
        let mut held = engine.shared.leads.held.lock();
        for name in &names {
            *held.entry(name.clone()).or_default() += 1;
        }
        drop(held);
        Self {
            engine: engine.clone(),
            names,
            may_be_left: false,
        }
    }

    /// Lets the leads cease once this is dropped, unless they are to be [kept](Self::keep).
    pub(super) fn for_now(mut self) -> Self {
        self.may_be_left = true;
        self
    }

    /// The streams were made, or it is not known whether they were.
    pub(super) fn keep(&mut self) {
        self.may_be_left = false;
    }
}

impl Drop for Led {
    fn drop(&mut self) {
        let shared = &self.engine.shared;
        let mut held = shared.leads.held.lock();
        for name in &self.names {
            let count = held.get_mut(name).expect("it is held");
            *count -= 1;
            if *count == 0 {
                held.remove(name);
            }
        }
        drop(held);
        if self.may_be_left {
            for name in self.names.drain(..) {
                shared.leftovers.note(Leftover::Led(name));
            }
        }
    }
}

impl Engine {
    /// Lets names be looked up where a stream stands, before others that have those names are placed beside it. Hold the
    /// answer until those are queued.
    pub(super) async fn lead(
        &self,
        mut names: Vec<StreamName>,
        beside: StreamId,
    ) -> Result<Led, EngineError> {
        // Where there is but one partition they are found without. A store that gets several leads them then.
        let is_alone = self.shared.nature.partitions == 1;
        names.retain(|name| !is_alone && self.shared.backend.wants_lead(name, beside));
        let led = Led::new(self, names);
        if !led.names.is_empty() {
            let names = led.names.clone();
            self.ask_to_lead(move |backend| backend.lead(&names, beside))
                .await?;
        }
        Ok(led)
    }

    /// Has the backend note where streams may come to stand, which takes space.
    pub(super) async fn ask_to_lead(
        &self,
        lead: impl FnOnce(&dyn Backend) -> Result<(), BackendError> + Send + 'static,
    ) -> Result<(), EngineError> {
        let shared = Arc::clone(&self.shared);
        let had_room = move |backend: &dyn Backend| {
            let _none_ceases = shared.leads.ceasing.read();
            match lead(backend) {
                Err(error) if error.is_full() => Ok(false),
                led => led.map(|()| true),
            }
        };
        if self.ask(had_room).await? {
            Ok(())
        } else {
            Err(EngineError::Full)
        }
    }
}

impl Engine {
    /// Lets prefixes cease to lead that an earlier run has used, and nobody any more.
    pub(super) async fn end_unused_leads(&self) {
        let shared = Arc::clone(&self.shared);
        let is_settled = shared.registry.next_sweep() > SETTLED_AFTER_SWEEPS;
        if shared.leads.is_tidy.load(Ordering::Relaxed) || !is_settled {
            return;
        }
        let ended = self.ask(move |backend| {
            let _nobody_leads = shared.leads.ceasing.write();
            let are_left = backend.end_unused_leads(PREFIXES_MAX)?;
            shared.leads.is_tidy.store(!are_left, Ordering::Relaxed);
            Ok(())
        });
        if let Err(error) = ended.await {
            tracing::warn!(%error, "prefixes of names that nobody uses could not be removed; it is tried again");
        }
    }
}

impl Shared {
    /// Lets a name cease to lead where no stream needs that, as far as is known: `released` is a deleted stream of it that
    /// is about to be released. Nothing ceases while a stream may still be made.
    pub(super) fn end_leads(
        &self,
        name: &StreamName,
        released: Option<StreamId>,
    ) -> Result<(), BackendError> {
        let _nobody_leads = self.leads.ceasing.write();
        // This is looked at first: who does not hold it any more has queued what it is held for.
        if self.leads.held.lock().contains_key(name) {
            return Ok(());
        }
        let entry = self.registry.peek(name);
        if entry.is_some_and(|entry| !entry.sequencer.lock().is_settled()) {
            return Ok(());
        }
        self.backend.end_leads(name, released)
    }

    /// Likewise, of a deleted stream that is about to be released.
    pub(super) fn end_leads_of(&self, released: StreamId) -> Result<(), BackendError> {
        match self.backend.led_name(released)? {
            Some(name) => self.end_leads(&name, Some(released)),
            None => Ok(()),
        }
    }
}
