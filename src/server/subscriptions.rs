//! Starts what subscriptions need: the keys, whoever sends webhooks, and the runtime that wakes workers.

use std::sync::Arc;

use tailwater_storage::clock::SystemClock;
use tailwater_storage::subscriptions::SubscriptionLimits;
use tailwater_storage::{Engine, Subscriptions};

use super::ServeError;
use crate::config::Config;
use crate::http::Served;
use crate::webhooks::{Deliverer, Keys, UrlRules};

/// Loads all subscriptions of an engine that nobody uses yet. Answers besides who sends their webhooks.
pub(super) async fn start(config: &Arc<Config>, engine: &Engine) -> Result<(Served, Deliverer), ServeError> {
    let (keys, deliverer) = open(config).await?;
    let settings = &config.subscriptions;
    let limits = SubscriptionLimits {
        subscriptions_max: settings.max_subscriptions,
        named_streams_max: settings.max_named_streams as u64,
        wake_streams_max: settings.max_wake_streams,
    };
    let all = Subscriptions::start(engine.clone(), Arc::new(deliverer.clone()), limits)
        .await
        .map_err(ServeError::Subscriptions)?;
    let served = Served {
        all,
        keys,
        url_rules: UrlRules::new(settings),
    };
    Ok((served, deliverer))
}

/// Reads the files of keys and of authorities, off the runtime.
async fn open(config: &Arc<Config>) -> Result<(Arc<Keys>, Deliverer), ServeError> {
    let config = Arc::clone(config);
    let opened = tokio::task::spawn_blocking(move || {
        let keys = Keys::open(Keys::path_of(&config).as_deref(), Arc::new(SystemClock))?;
        let keys = Arc::new(keys);
        let deliverer = Deliverer::new(&config.subscriptions, Arc::clone(&keys))?;
        Ok((keys, deliverer))
    });
    opened.await.expect("reading files does not panic")
}
