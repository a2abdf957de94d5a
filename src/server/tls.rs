//! TLS of the server's port: handshakes, and files that are read again while the server runs. Knows no HTTP.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificates::{Files, HTTP2, Loaded, TlsError};
use crate::config::TlsConfig;
use crate::metrics::TlsMetrics;

/// Between two looks at the files. What has changed is used once it is the same at two looks, so that a certificate
/// and its key that are written one after the other are read together.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The TLS of a port.
pub(super) struct Tls {
    settings: TlsConfig,
    /// For new handshakes. A connection keeps the one that it began with.
    current: Mutex<Arc<ServerConfig>>,
    pub(super) metrics: Arc<TlsMetrics>,
}

/// Why there is no TLS on a connection.
pub(super) enum NoTls {
    /// The client speaks HTTP in clear.
    InClear(TcpStream),
    /// The handshake failed, or the client is gone.
    Failed(io::Error),
}

impl Tls {
    /// Reads the files that the settings name; none if there is to be no TLS.
    pub(super) fn start(settings: &TlsConfig) -> Result<Option<(Self, Files)>, TlsError> {
        let Some(files) = Files::read(settings) else {
            return Ok(None);
        };
        let Loaded { config, expires_secs } = files.load(now())?;
        let tls = Self {
            settings: settings.clone(),
            current: Mutex::new(config),
            metrics: Arc::new(TlsMetrics::new(expires_secs)),
        };
        Ok(Some((tls, files)))
    }

    /// Waits for the client's first byte and does the handshake with it. Whoever begins with a letter is told in clear
    /// what is wrong: all methods of HTTP do, and TLS begins with the byte 22.
    pub(super) async fn handshake(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, NoTls> {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1..) if first[0].is_ascii_uppercase() => return Err(NoTls::InClear(stream)),
            Ok(_) => {}
            Err(error) => return Err(NoTls::Failed(error)),
        }
        let handshake = TlsAcceptor::from(self.current()).accept(stream);
        handshake.await.map_err(NoTls::Failed)
    }

    /// Reads the files again, for ever: on SIGHUP, which `hangups` receives, and when they are no longer what they
    /// were.
    ///
    /// # Panics
    /// If reading them does.
    pub(super) async fn keep_current(&self, changes: &mut Changes, hangups: &mut Signal) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = hangups.recv() => true,
                _ = looks.tick() => false,
            };
            let settings = self.settings.clone();
            let read = tokio::task::spawn_blocking(move || Files::read(&settings));
            let Some(files) = read.await.expect("reading files does not panic") else {
                return;
            };
            if let Some(files) = changes.look(files, asked) {
                self.renew(files);
            }
        }
    }

    /// Lets new connections use what the files hold, if that can be used.
    fn renew(&self, files: &Files) {
        match files.load(now()) {
            Ok(Loaded { config, expires_secs }) => {
                self.metrics.reloaded(expires_secs);
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = config;
                tracing::info!("the TLS files were read again; new connections use them");
            }
            Err(error) => {
                self.metrics.reload_failed();
                tracing::error!("new TLS files cannot be used, the ones before stay in use: {error}");
            }
        }
    }

    fn current(&self) -> Arc<ServerConfig> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }
}

/// Tells which changes of the files are to be acted upon.
pub(super) struct Changes {
    /// What is in use, or could not be used.
    known: Files,
    /// What was there at the last look, if it is another thing.
    changed: Option<Files>,
}

impl From<Files> for Changes {
    /// `files` is what is in use.
    fn from(files: Files) -> Self {
        Self {
            known: files,
            changed: None,
        }
    }
}

impl Changes {
    /// Answers what is there now if it is to be used: because it is new and was there at the last look too, or because
    /// somebody has `asked`.
    fn look(&mut self, files: Files, asked: bool) -> Option<&Files> {
        // Forgotten also when asked, or the next look would find the same change once more.
        let has_settled = self.changed.take().is_some_and(|changed| changed.same_as(&files));
        if asked || has_settled {
            self.known = files;
            return Some(&self.known);
        }
        if !files.same_as(&self.known) {
            self.changed = Some(files);
        }
        None
    }
}

/// Whether the two have agreed on HTTP/2. Who knows of no such choice gets HTTP/1.1.
pub(super) fn is_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP2)
}

/// Since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Changes, Files};

    #[test]
    fn a_change_is_used_once_when_it_has_settled_or_is_asked_for() {
        let mut changes = Changes::from(Files::holding("a", "a"));
        let mut is_used =
            |cert: &str, key: &str, asked| changes.look(Files::holding(cert, key), asked).is_some();
        assert!(!is_used("a", "a", false), "nothing is new");
        assert!(is_used("a", "a", true), "asked for");
        assert!(!is_used("b", "a", false), "one of two is written");
        assert!(!is_used("b", "b", false), "the other one too");
        assert!(is_used("b", "b", false), "settled");
        assert!(!is_used("b", "b", false), "used already");
        assert!(!is_used("c", "c", false), "new");
        assert!(is_used("c", "c", true), "asked for before it has settled");
        assert!(!is_used("c", "c", false), "used already, when asked for");
        assert!(!is_used("d", "d", false), "new");
        assert!(!is_used("c", "c", false), "taken back");
        assert!(!is_used("c", "c", false), "nothing is new");
    }
}
