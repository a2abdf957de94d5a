//! What operators rely on: health checks, exit codes, the drill of a restore, tokens out of files, secrets
//! that are shown nowhere, metrics that rules and dashboards name, the roles of `docker-compose.yml`.

mod commands;
mod drill;
mod exits;
mod health;
mod metrics;
mod roles;
mod secrets;
mod tokens;
