//! Tailwater: a durable-stream server over HTTP.
