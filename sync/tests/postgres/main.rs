//! The mirror's side of PostgreSQL against a real one. What is claimed of rows is counted by `psql`, not by the
//! mirror.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod commits;
mod connections;
mod crashes;
mod dead_letters;
mod encryption;
mod full_disk;
mod late_answers;
mod leases;
mod migrations;
mod notes;
mod pooler;
mod races;
mod routed_rows;
mod routed_tables;
mod routing;
mod scene;
mod speed;
