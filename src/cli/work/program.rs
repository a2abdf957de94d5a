//! The program that does a job, and all that it has started: one process group, which ends as a whole.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// A program that runs. What is left of its group is killed when this goes.
pub(super) struct Program {
    child: Child,
    group: Pid,
}

impl Program {
    /// Runs `command` by `sh -c`, with these variables and this line on its stdin.
    pub(super) fn start(
        command: &str,
        variables: &[(&str, String)],
        input: String,
    ) -> io::Result<(Self, ChildStdout, ChildStderr)> {
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(command)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let number = child.id().expect("it was not waited for");
        let group = i32::try_from(number)
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        let mut stdin = child.stdin.take().expect("it was asked for");
        tokio::spawn(async move {
            // A program need not read what it is to do.
            let _ = stdin.write_all(input.as_bytes()).await;
            let _ = stdin.write_all(b"\n").await;
        });
        let stdout = child.stdout.take().expect("it was asked for");
        let stderr = child.stderr.take().expect("it was asked for");
        Ok((Self { child, group }, stdout, stderr))
    }

    /// Waits until it has ended by itself.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks it to end, and ends it if it has not after a while. Answers with how it ended.
    pub(super) async fn end(&mut self, kill_after: Duration) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM);
        if let Ok(ended) = tokio::time::timeout(kill_after, self.child.wait()).await {
            return ended;
        }
        self.signal(Signal::KILL);
        self.child.wait().await
    }

    fn signal(&self, signal: Signal) {
        // All of it may have ended.
        let _ = kill_process_group(self.group, signal);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
