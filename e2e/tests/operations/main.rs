//! What operators rely on: health checks, exit codes, tokens out of files, metrics that rules and dashboards name, the roles of `docker-compose.yml`.

mod commands;
mod exits;
mod health;
mod metrics;
mod roles;
mod tokens;
