//! The Unix socket on which operators on the same machine ask the server that uses a data directory. Only the
//! directory's owner can.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tailwater_storage::panics::Task;
use tailwater_storage::store::BackupReport;
use tailwater_storage::{Engine, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::connection;
use crate::control::{Answer, Backup, REQUEST_BYTES_MAX, Request, Rotation, is_wrong, socket_of};
use crate::webhooks::{Keys, RotateError, key_file};

/// Requests at a time, and those who are about to make one. Others wait to be accepted.
const CONNECTIONS_MAX: usize = 8;

/// How long a peer is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    pub(super) request: Duration,
    pub(super) answer: Duration,
}

/// What can be asked about.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) store: Store,
    pub(super) keys: Arc<Keys>,
    /// Where the store stands, and its keys.
    pub(super) data_dir: PathBuf,
}

/// A socket that is listened on until it is dropped, which removes it.
pub(super) struct ControlSocket {
    path: PathBuf,
    accepting: JoinHandle<()>,
}

impl ControlSocket {
    /// Listens in the data directory, which must be locked: a socket that is there is one that nobody listens on.
    /// None, after a warning, if that is impossible, which is no reason not to serve. `engine` counts the panics of it.
    pub(super) fn listen(asked: Asked, data_dir: &Path, timeouts: Timeouts, engine: Engine) -> Option<Self> {
        let path = socket_of(data_dir);
        match bind(&path) {
            Ok(listener) => {
                let accepting = tokio::spawn(async move {
                    let panics = &engine.stats().panics;
                    panics
                        .keep(Task::ControlSocket, || {
                            accept(&listener, &asked, timeouts, &engine)
                        })
                        .await;
                });
                Some(Self { path, accepting })
            }
            Err(error) => {
                tracing::warn!(
                    path = %path.display(), %error,
                    "the control socket cannot be listened on: `tailwater backup` and `tailwater stats` work only \
                     while the server is stopped, and `tailwater sub rotate-key` does not work"
                );
                None
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.accepting.abort();
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket could not be removed");
        }
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    match path.symlink_metadata() {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(_absent) => {}
    }
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    // Nobody can connect before it is listened on.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.listen(CONNECTIONS_MAX as u32)
}

async fn accept(listener: &UnixListener, asked: &Asked, timeouts: Timeouts, engine: &Engine) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _peer)) => {
                let asked = asked.clone();
                connection::spawn(engine, async move {
                    if let Err(error) = serve(stream, asked, timeouts).await {
                        tracing::debug!(%error, "a peer of the control socket went away");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept connections of the control socket");
                // Accepting again at once would spin until a descriptor is free.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(mut stream: UnixStream, asked: Asked, timeouts: Timeouts) -> io::Result<()> {
    let line = tokio::time::timeout(timeouts.request, read_line(&mut stream)).await??;
    let answer = match serde_json::from_slice(&line) {
        Ok(request) => answer(asked, request).await,
        Err(error) => refused(&format_args!("the request cannot be understood: {error}"), true),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    tokio::time::timeout(timeouts.answer, stream.write_all(&line)).await?
}

/// A line without its end, or all that the peer has sent before it closed its side.
async fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let count = stream.read(&mut piece).await?;
        let ends_at = piece[..count].iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&piece[..ends_at.unwrap_or(count)]);
        if line.len() > REQUEST_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if ends_at.is_some() || count == 0 {
            return Ok(line);
        }
    }
}

async fn answer(asked: Asked, request: Request) -> Answer {
    let answered = tokio::task::spawn_blocking(move || match request {
        Request::Stats => match asked.store.stats() {
            Ok(stats) => Answer::Stats(stats.into()),
            Err(error) => refused(&error, false),
        },
        Request::Backup { to } if to.is_relative() => {
            refused(&"the copy's directory has to be given by its absolute path", true)
        }
        Request::Backup { to } => back_up(&asked, to),
        Request::RotateKey { at_once } => rotate(&asked.keys, at_once),
    });
    answered
        .await
        .unwrap_or_else(|_panicked| refused(&"it panicked, which is a bug", false))
}

fn back_up(asked: &Asked, to: PathBuf) -> Answer {
    let copied = asked.store.backup(&to);
    let copied = copied.map_err(|error| (error.to_string(), is_wrong(&error)));
    let with_keys = copied.and_then(|report: BackupReport| {
        let keys = key_file::copy(&asked.data_dir, &to);
        keys.map(|()| report)
            .map_err(|error| (format!("{error}; the copy has everything but the keys"), false))
    });
    match with_keys {
        Ok(report) => {
            let backup = Backup::new(to, report);
            tracing::info!(to = %backup.to.display(), streams = backup.streams, "the store was copied");
            Answer::Backup(backup)
        }
        Err((error, is_wrong)) => {
            tracing::warn!(to = %to.display(), %error, "the store could not be copied");
            refused(&error, is_wrong)
        }
    }
}

fn rotate(keys: &Keys, at_once: bool) -> Answer {
    use crate::webhooks::Rotation::{AtOnce, Gradual};
    match keys.rotate(if at_once { AtOnce } else { Gradual }) {
        Ok(rotated) => {
            tracing::info!(kid = rotated.kid, at_once, "there is a new key for webhooks");
            Answer::RotateKey(Rotation {
                kid: rotated.kid,
                signs_in_secs: rotated.signs_in_secs,
                published: rotated.published,
            })
        }
        Err(error) => {
            tracing::warn!(%error, "there is no new key for webhooks");
            refused(&error, matches!(error, RotateError::TooMany(_)))
        }
    }
}

fn refused(reason: &dyn ToString, is_wrong: bool) -> Answer {
    Answer::Refused {
        reason: reason.to_string(),
        is_wrong,
    }
}
