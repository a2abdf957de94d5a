//! Job queues from outside: the real server, real workers as processes, and what is left of both when they are killed.
//!
//! | file | what stands there |
//! |---|---|
//! | `scene.rs` | queues, jobs and runs of a server, and workers as processes |
//! | `oracle.rs` | what must be so of a run, whatever happened |
//! | `calls.rs` | what is asked of a queue over HTTP |
//! | `commands.rs` | what the commands on queues and runs do |
//! | `programs.rs` | what becomes of the programs of a worker |
//! | `kills.rs` | workers and the server are killed in turn under load |
//! | `watchers.rs` | who follows a run across a restart of the server |

mod calls;
mod commands;
mod kills;
mod oracle;
mod programs;
mod scene;
mod watchers;
