//! What operators rely on: health checks, exit codes, tokens out of files, metrics that rules and dashboards name, and their port, the roles of `docker-compose.yml`.

mod commands;
mod exits;
mod health;
mod metrics;
mod metrics_port;
mod roles;
mod tokens;
