//! Runs the JavaScript halves of the tests, which live beside them in `tests/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// This package's directory, which holds `package.json` and `node_modules`.
pub fn package_directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A Node.js process in this package's directory; panics, saying what to do, when its modules are missing.
#[track_caller]
pub fn node(script: &str) -> Command {
    let directory = package_directory();
    assert!(
        directory.join("node_modules").is_dir(),
        "the JavaScript modules are missing: run `npm ci` in {}, or `make test` at the top",
        directory.display()
    );
    let mut command = Command::new("node");
    command.arg(script).current_dir(directory);
    command
}

/// Runs to the end; panics with all that the process has written unless it succeeds.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?} (is Node.js there?): {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed with {}:\n{}",
        output.status,
        written(&output)
    );
    output
}

/// All that a process has written, for a failure's message.
pub fn written(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A browser's executable: `CHROMIUM`, or the usual place of the Debian package.
#[track_caller]
pub fn chromium() -> PathBuf {
    let path = std::env::var_os("CHROMIUM").map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from);
    assert!(
        Path::new(&path).exists(),
        "{} does not exist: install it with `apt-get install chromium`, or name a browser in CHROMIUM",
        path.display()
    );
    path
}
