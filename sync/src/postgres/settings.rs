//! Where the database is, how it is spoken to, and how long it is waited for. Connects to nothing.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::route::Routes;

const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
/// What the server's own views call the connections of a mirror.
const APPLICATION_NAME: &str = "tailwater-sync";
/// Of the system; a connection that is silent for that long may have been forgotten by every router on its way.
const DEFAULT_KEEPALIVE_IDLE: Duration = Duration::from_secs(2 * 60 * 60);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long sent bytes may stay unacknowledged by the other machine.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// How the mirror connects to PostgreSQL.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) server: Config,
    /// Who may have signed the server's certificate; the machine's authorities, if none is named.
    pub ca_path: Option<PathBuf>,
    /// For a connection until it can be used, TLS and password included.
    pub connect_timeout_ms: u64,
    /// For one statement, which the server then ends.
    pub statement_timeout_ms: u64,
    /// For a lock that another transaction has. Always below `statement_timeout_ms`, to tell the two apart.
    pub lock_timeout_ms: u64,
    /// For all of one call, in which the server may have hung or gone. The connection is given up then.
    pub answer_timeout_ms: u64,
    /// Whether an event that cannot be a row becomes a dead letter. Else nothing of the commit that it is in is
    /// written, and the commit fails with [`Error::Unmappable`](super::Error::Unmappable).
    pub takes_dead_letters: bool,
    /// Which streams go to tables of their own.
    pub routes: Arc<Routes>,
}

/// A URL of a database that cannot be used. None of them shows a password.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It does not begin as such a URL does.
    #[error(
        "it is no URL of a PostgreSQL database; write it like postgres://user:password@host:5432/database"
    )]
    NotAUrl,
    /// Something in it cannot be read.
    #[error(
        "the URL cannot be read: {}; characters such as @ : / ? # % in a user's name or password are \
         written as %40 and so on",
        cause(source)
    )]
    Unreadable {
        /// Which part, as far as it is known.
        #[source]
        source: tokio_postgres::Error,
    },
    /// `sslmode` has a value that nobody knows.
    #[error(
        "`sslmode` is {value:?}; it may be disable, prefer, require, verify-ca or verify-full (the last three mean \
         the same here: TLS with a certificate that is checked)"
    )]
    UnknownSslMode {
        /// What it is.
        value: String,
    },
    /// A parameter is known to other clients, and would be silently without effect here.
    #[error("the parameter `{name}` is not supported; take it out of the URL{hint}")]
    Unsupported {
        /// Its name.
        name: String,
        /// What to do instead, if there is something.
        hint: &'static str,
    },
    /// No host is named.
    #[error("the URL names no host; write it like postgres://user:password@host:5432/database")]
    NoHost,
}

impl Settings {
    /// Reads a URL such as `postgres://user:password@host:5432/database?sslmode=verify-full&sslrootcert=/etc/ca.pem`.
    ///
    /// `sslmode` is `prefer` if it is not said. Whenever TLS is spoken, the certificate must be of a known authority
    /// and for that host, whatever `sslmode` says: encryption for whoever happens to answer would keep no password.
    ///
    /// # Errors What is wrong with it.
    pub fn from_url(url: &str) -> Result<Self, SettingsError> {
        if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
            return Err(SettingsError::NotAUrl);
        }
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut ssl_mode, mut ca_path, mut passed_on) = (SslMode::Prefer, None, Vec::new());
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            match name {
                "sslmode" => ssl_mode = read_ssl_mode(&value)?,
                "sslrootcert" => ca_path = (value != "system").then(|| PathBuf::from(value.as_ref())),
                "sslcert" | "sslkey" => return Err(unsupported(name, " and give the user a password")),
                "passfile" | "service" => {
                    return Err(unsupported(name, " and write the password into the URL"));
                }
                "sslnegotiation" => return Err(unsupported(name, "")),
                _ => passed_on.push(parameter),
            }
        }
        let server = format!("{place}?{}", passed_on.join("&"));
        let mut server = Config::from_str(&server).map_err(|source| SettingsError::Unreadable { source })?;
        if server.get_hosts().is_empty() && server.get_hostaddrs().is_empty() {
            return Err(SettingsError::NoHost);
        }
        server.ssl_mode(ssl_mode);
        find_out_dead_connections(&mut server);
        if server.get_application_name().is_none() {
            server.application_name(APPLICATION_NAME);
        }
        Ok(Self {
            server,
            ca_path,
            connect_timeout_ms: 10_000,
            statement_timeout_ms: 60_000,
            lock_timeout_ms: 10_000,
            answer_timeout_ms: 90_000,
            takes_dead_letters: true,
            routes: Arc::default(),
        })
    }

    /// Where the database is, for messages: hosts, ports and the name, and never a password.
    #[must_use]
    pub fn address(&self) -> Address {
        let hosts = self.server.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        });
        let ports = self.server.get_ports();
        let places: Vec<_> = hosts
            .enumerate()
            .map(|(at, host)| match ports.get(at).or(ports.first()) {
                Some(port) => format!("{host}:{port}"),
                None => host,
            })
            .collect();
        let database = self.server.get_dbname().or(self.server.get_user());
        Address(format!("{}/{}", places.join(","), database.unwrap_or_default()))
    }
}

/// Where a database is, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn read_ssl_mode(value: &str) -> Result<SslMode, SettingsError> {
    match value {
        "disable" => Ok(SslMode::Disable),
        "allow" | "prefer" => Ok(SslMode::Prefer),
        "require" | "verify-ca" | "verify-full" => Ok(SslMode::Require),
        _ => Err(SettingsError::UnknownSslMode {
            value: value.to_owned(),
        }),
    }
}

fn unsupported(name: &str, hint: &'static str) -> SettingsError {
    let name = name.to_owned();
    SettingsError::Unsupported { name, hint }
}

/// What the URL says of keepalives stays as it is.
fn find_out_dead_connections(server: &mut Config) {
    if server.get_keepalives_idle() == DEFAULT_KEEPALIVE_IDLE {
        server.keepalives_idle(KEEPALIVE_IDLE);
    }
    if server.get_keepalives_interval().is_none() {
        server.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if server.get_keepalives_retries().is_none() {
        server.keepalives_retries(KEEPALIVE_RETRIES);
    }
    if server.get_tcp_user_timeout().is_none() {
        server.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
}

/// The library tells what was wrong in the source of its error alone.
fn cause(error: &tokio_postgres::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_the_database_is_and_its_password_is_never_shown() {
        let settings = Settings::from_url(
            "postgres://ada:s%40cret@db.example:6432/logs?sslmode=verify-full&sslrootcert=/ca.pem",
        );
        let settings = settings.unwrap();
        assert_eq!(settings.address().to_string(), "db.example:6432/logs");
        assert_eq!(settings.server.get_password(), Some("s@cret".as_bytes()));
        assert_eq!(settings.server.get_ssl_mode(), SslMode::Require);
        assert_eq!(settings.ca_path, Some(PathBuf::from("/ca.pem")));
        assert_eq!(settings.server.get_application_name(), Some("tailwater-sync"));
        assert!(!format!("{settings:?}").contains("cret"), "{settings:?}");
    }

    #[test]
    fn what_the_url_says_of_names_and_keepalives_is_kept() {
        let url = "postgresql://ada@%2Frun%2Fpostgresql/logs?application_name=mirror&keepalives_idle=5&sslmode=disable";
        let settings = Settings::from_url(url).unwrap();
        assert_eq!(settings.server.get_application_name(), Some("mirror"));
        assert_eq!(settings.server.get_keepalives_idle(), Duration::from_secs(5));
        assert_eq!(settings.server.get_ssl_mode(), SslMode::Disable);
        assert_eq!(settings.address().to_string(), "/run/postgresql:5432/logs");
    }

    #[test]
    fn a_url_that_cannot_be_used_is_told_why() {
        for (url, message) in [
            ("mysql://db/logs", "it is no URL of a PostgreSQL database"),
            ("postgres:///logs", "names no host"),
            (
                "postgres://db/logs?sslmode=yes",
                "`sslmode` is \"yes\"; it may be disable,",
            ),
            ("postgres://db/logs?sslcert=/me.pem", "`sslcert` is not supported"),
            (
                "postgres://db/logs?colour=red",
                "cannot be read: unknown option `colour`",
            ),
            (
                "postgres://db:port/logs",
                "cannot be read: invalid value for option `port`",
            ),
        ] {
            let error = Settings::from_url(url).unwrap_err().to_string();
            assert!(error.contains(message), "{url}: {error}");
        }
    }
}
