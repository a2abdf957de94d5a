//! More load than the server takes: who is refused, how that is told, and who goes on undisturbed.

mod clients;
mod everybody;
mod reads;
mod support;
mod untaken;
