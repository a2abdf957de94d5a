//! The drill of docs/production.md for containers, with the very commands that stand there.

use tailwater_e2e::node;

use crate::engine::{engine, server_image, unique};
use crate::project::Project;

const DOCUMENT: &str = include_str!("../../../docs/production.md");

/// The blocks of the part for containers: what makes a backup, what tries it out, what puts it in place.
fn blocks() -> [&'static str; 3] {
    let (_, part) = DOCUMENT
        .split_once("### In containers\n")
        .expect("the document has this part");
    let (part, _) = part.split_once("\n## ").expect("another part follows");
    let blocks = part.split("```").filter_map(|block| block.strip_prefix("sh\n"));
    let blocks: Vec<_> = blocks.collect();
    blocks.try_into().expect("three blocks")
}

/// What of the engine is left if a command fails.
struct Leftovers([String; 3]);

impl Drop for Leftovers {
    fn drop(&mut self) {
        let [create, drill, volume] = &self.0;
        let _ = engine(&["rm", "--force", create, drill]).output();
        let _ = engine(&["volume", "rm", "--force", volume]).output();
    }
}

#[test]
#[ignore = "needs Docker with its compose; `make test-images` runs it"]
fn a_backup_is_carried_out_tried_in_a_container_and_put_in_place_of_what_was_lost() {
    let names = ["restore", "drill", "restored"].map(unique);
    let _leftovers = Leftovers(names.clone());
    let project = Project::set_up();
    // Of the document's names only these are others here; nobody can decrypt what is for RECIPIENT.
    let here = |block: &str| {
        let elsewhere = project.path().join("elsewhere").display().to_string();
        let [restore, drill, restored] = &names;
        block
            .replace("age -r RECIPIENT", "cat")
            .replace("age -d -i KEY", "cat")
            .replace("/elsewhere", &elsewhere)
            .replace("tailwater:v1.2.3", &server_image())
            .replace("--name restore ", &format!("--name {restore} "))
            .replace(" restore:/", &format!(" {restore}:/"))
            .replace("docker rm restore", &format!("docker rm {restore}"))
            .replace("--name drill ", &format!("--name {drill} "))
            .replace("docker exec drill ", &format!("docker exec {drill} "))
            .replace("docker rm --force drill", &format!("docker rm --force {drill}"))
            .replace("restored", restored)
            .replace("NAME", "kept")
    };
    let run = |script: &str| {
        let output = node::run(&mut project.shell(script));
        node::written(&output)
    };
    std::fs::create_dir(project.path().join("elsewhere")).expect("a directory");
    project.up("tailwater");
    let append = |event: &str| {
        run(&format!(
            "echo '{event}' | docker compose exec -T tailwater tailwater append kept --create --json"
        ))
    };
    append(r#"{"at":1}"#);

    let [backup, drill, restore] = blocks();
    let said = run(&here(backup));
    assert!(said.contains("is clean"), "{said}");
    append(r#"{"at":2}"#);
    let said = run(&here(drill));
    assert!(said.contains("is clean"), "{said}");
    assert!(
        said.contains(r#"{"at":1}"#) && !said.contains(r#"{"at":2}"#),
        "{said}"
    );

    // The machine is lost, with its volumes.
    project.compose("down --volumes");
    run(&here(restore));
    project.up("tailwater");
    let read = run("docker compose exec -T tailwater tailwater read kept");
    assert_eq!(read.trim_end(), r#"{"at":1}"#, "what the backup had");
    append(r#"{"at":3}"#);
}
