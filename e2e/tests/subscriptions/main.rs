//! Subscriptions from outside: what the official tests do not ask, and what a killed server still knows.
//!
//! | file | what stands there |
//! |---|---|
//! | `client.rs` | requests to subscriptions |
//! | `answers.rs` | documents, listings and refusals |
//! | `protocol.rs` | sentences of the protocol: what is compared, what is told, who is believed |
//! | `backup.rs` | what a restored server knows of them |
//! | `kills.rs` | workers at work while the server is killed again and again |

mod answers;
mod backup;
mod client;
mod kills;
mod protocol;
