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

mod addresses;
pub(crate) mod key_file;
mod key_ring;
mod keys;
mod tokens;
mod url;

pub use addresses::RefusedAddress;
pub use key_file::KeyFileError;
pub use key_ring::{Rotation, TooManyKeys};
pub use keys::{Keys, RotateError, Rotated};
pub use tokens::{Token, TokenError, TokenUse};
pub use url::{UrlError, UrlRules, WebhookUrl};
