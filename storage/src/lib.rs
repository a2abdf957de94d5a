//! The storage engine: decides through the stream rules, keeps bytes through a backend.
