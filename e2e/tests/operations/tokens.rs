//! The token of the command line, out of a file.

use std::fs;

use tailwater_e2e::recorder::Recorder;

use crate::commands::{outcome, tailwater};

#[test]
fn a_token_comes_out_of_a_file_without_the_end_of_its_line() {
    let recorder = Recorder::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("token");
    fs::write(&file, "token-of-a-file\n").expect("it can be written");
    let url = format!("http://{}/v1/stream", recorder.address());
    let mut command = tailwater(&["head", "x", "--url", &url]);
    command.env("TAILWATER_TOKEN_FILE", &file);
    outcome(command);
    let request = recorder.newest_of(1);
    assert_eq!(request.values("authorization"), ["Bearer token-of-a-file"]);
}

#[test]
fn a_file_without_a_token_and_two_tokens_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let empty = dir.path().join("empty");
    fs::write(&empty, " \n").expect("it can be written");
    let empty = empty.to_str().expect("a plain path");
    for (arguments, variable, said) in [
        (
            &["--token-file", empty][..],
            "",
            "which is empty; write the token into it",
        ),
        (
            &["--token-file", "/no/such/file"],
            "",
            "names /no/such/file, which cannot be read",
        ),
        (&["--token-file", empty], "hush-hush", "a token is given twice"),
    ] {
        let mut command = tailwater(&[&["head", "x"], arguments].concat());
        command.env("TAILWATER_TOKEN", variable);
        let (code, printed) = outcome(command);
        assert_eq!(code, Some(2), "{printed}");
        assert!(printed.contains(said), "{printed}");
        assert!(!printed.contains("hush-hush"), "{printed}");
    }
}
