//! What operators rely on: health checks, tokens out of files, the roles of `docker-compose.yml`.

mod commands;
mod health;
mod roles;
mod tokens;
