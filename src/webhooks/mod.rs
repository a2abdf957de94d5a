//! What subscriptions send out: webhooks to receivers that may be hostile, and tokens for those who answer.
//! Knows no rule of a subscription.
//!
//! | file | what stands there |
//! |---|---|
//! | `url.rs` | the URL of a webhook, and which are refused |
//! | `addresses.rs` | which addresses webhooks may be sent to |
//! | `keys.rs` | signatures, and the published keys |
//! | `key_ring.rs key_file.rs` | which key signs when; the file that keeps them |
//! | `tokens.rs` | what receivers and workers show when they answer |
//! | `deliverer.rs lanes.rs` | deliveries, and whose turn it is |
//! | `notification.rs sender.rs` | what is sent, and how |
//! | `network.rs authorities.rs` | the seam to the network; how receivers are known in TLS |
//! | `scene.rs` | tests: a network whose names and receivers do as they are told |

mod addresses;
mod authorities;
mod deliverer;
pub(crate) mod key_file;
mod key_ring;
mod keys;
mod lanes;
mod network;
mod notification;
#[cfg(test)]
mod scene;
mod sender;
mod tokens;
mod url;

pub use addresses::RefusedAddress;
pub use authorities::AuthoritiesError;
pub use deliverer::{Deliverer, DeliveryCounts};
pub use key_file::KeyFileError;
pub use key_ring::{Rotation, TooManyKeys};
pub use keys::{Keys, RotateError, Rotated};
pub use tokens::{Token, TokenError, TokenUse};
pub use url::{UrlError, UrlRules, WebhookUrl};
