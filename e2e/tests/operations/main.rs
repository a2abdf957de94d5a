//! What operators rely on: health checks, exit codes, the drill of a restore, tokens out of files, secrets
//! that are shown nowhere, metrics that rules and dashboards name, and their port, the roles of `docker-compose.yml`.

mod commands;
mod drill;
mod exits;
mod health;
mod metrics;
mod metrics_port;
mod roles;
mod secrets;
mod tokens;
