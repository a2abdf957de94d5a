//! What subscriptions send out: webhooks to receivers that may be hostile, and tokens for those who answer.
//! Knows no rule of a subscription.
//!
//! | file | what stands there |
//! |---|---|
//! | `url.rs` | the URL of a webhook, and which are refused |
//! | `addresses.rs` | which addresses webhooks may be sent to |

mod addresses;
mod url;

pub use addresses::RefusedAddress;
pub use url::{UrlError, UrlRules, WebhookUrl};
