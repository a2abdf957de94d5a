//! What the images say of themselves, and what is not in them.

use serde_json::Value;
use tailwater_e2e::node;

use crate::engine::{engine, is_podman, mirror_image, printed, server_image};

/// The base image has 23 MB, and both programs with their line numbers 54 MB.
const SIZE_BYTES_MAX: u64 = 100_000_000;

fn inspected(image: &str) -> Value {
    let text = printed(&mut engine(&["image", "inspect", image]));
    let all: Value = serde_json::from_str(&text).expect("the engine prints JSON");
    all[0].clone()
}

#[test]
#[ignore = "needs a container engine; `make test-images` runs it"]
fn images_are_small_and_say_as_whom_and_how_they_run() {
    for (image, entry, port) in [
        (server_image(), "tailwater", "4437/tcp"),
        (mirror_image(), "tailwater-sync", "4438/tcp"),
    ] {
        let told = inspected(&image);
        let config = &told["Config"];
        assert_eq!(config["User"], "65532:65532", "{image}");
        assert_eq!(config["StopSignal"], "SIGTERM", "{image}");
        assert_eq!(config["Entrypoint"], serde_json::json!([entry]));
        assert!(config["ExposedPorts"][port].is_object(), "{image}: {config}");
        // Podman tells it beside all else, and keeps it in the format of Docker alone.
        let place = if is_podman() { &told } else { config };
        let check = place["Healthcheck"]["Test"].to_string();
        assert!(
            check.starts_with(r#"["CMD","tailwater","health""#),
            "{image}: {check}"
        );
        let size = told["Size"].as_u64().expect("a size");
        assert!(size < SIZE_BYTES_MAX, "{image} has {size} bytes");
    }
    let volumes = &inspected(&server_image())["Config"]["Volumes"];
    assert!(volumes["/data"].is_object(), "{volumes}");
}

#[test]
#[ignore = "needs a container engine; `make test-images` runs it"]
fn both_programs_are_in_each_image_and_no_shell_is() {
    for image in [server_image(), mirror_image()] {
        for program in ["tailwater", "tailwater-sync"] {
            let entry = format!("--entrypoint={program}");
            let said = printed(&mut engine(&["run", "--rm", &entry, &image, "--version"]));
            assert!(said.starts_with(program), "{said}");
        }
        for shell in ["/bin/sh", "/bin/bash", "/bin/busybox"] {
            let entry = format!("--entrypoint={shell}");
            let output = engine(&["run", "--rm", &entry, &image, "-c", "true"]).output();
            let output = output.expect("the engine can be run");
            assert!(!output.status.success(), "{image} has {shell}");
            let said = node::written(&output).to_lowercase();
            assert!(said.contains("no such file"), "refused for that alone: {said}");
        }
    }
}
