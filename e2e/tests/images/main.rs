//! The images of the Dockerfile, and all of `docker-compose.yml`, by a real container engine. `make test-images` builds the
//! images and runs these tests.

mod compose;
mod containers;
mod drill;
mod engine;
mod image;
mod project;
