//! What goes wrong between the mirror and PostgreSQL: whether it heals by itself, and if not, what to do.

use std::io;

use tokio_postgres::error::DbError;

use super::routed::RouteFault;
use super::settings::Address;
use super::tls::CaError;
use crate::partition::PARTITIONS;
use crate::route::Route;

/// The oldest server that the mirror works with, as `server_version_num` has it, and as people say it.
pub(super) const SERVER_OLDEST: (i32, &str) = (140_000, "14");

/// A call that PostgreSQL has not done. Nothing of it was written, unless the connection was lost or time ran out:
/// then the next commit tells, by [`Outcome::Moved`](super::Outcome::Moved).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error("PostgreSQL at {address} cannot be reached: {}", last_cause(source))]
    Unreachable {
        /// Where it should be.
        address: Address,
        /// Why not.
        source: tokio_postgres::Error,
    },
    /// The connection broke.
    #[error("the connection to PostgreSQL was lost: {}", last_cause(source))]
    Lost {
        /// How.
        source: tokio_postgres::Error,
    },
    /// There was no answer in time. The connection is given up.
    #[error("PostgreSQL at {address} did not answer {doing} within {timeout_ms} ms")]
    TimedOut {
        /// Where it is.
        address: Address,
        /// What it was to do.
        doing: &'static str,
        /// How long it was waited for.
        timeout_ms: u64,
    },
    /// The file of authorities is of no use.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// TLS cannot be spoken with this server.
    #[error(
        "PostgreSQL at {address} cannot be trusted: {reason}; name its authority with sslrootcert, or say \
         sslmode=disable if the network is safe"
    )]
    Untrusted {
        /// Where it is.
        address: Address,
        /// What is wrong with its certificate, or how the handshake failed.
        reason: rustls::Error,
    },
    /// TLS was asked for, and the server has none.
    #[error(
        "PostgreSQL at {address} speaks no TLS; turn it on there, or say sslmode=disable if the network is safe"
    )]
    NoTls {
        /// Where it is.
        address: Address,
    },
    /// The server is older than the mirror needs.
    #[error("PostgreSQL {found} is too old; the mirror needs {} or later", SERVER_OLDEST.1)]
    TooOld {
        /// Its version.
        found: String,
    },
    /// The database cannot hold every character.
    #[error(
        "the database has the encoding {found}; the mirror needs one that was created with ENCODING 'UTF8'"
    )]
    Encoding {
        /// Its encoding.
        found: String,
    },
    /// The tables were made by a newer mirror.
    #[error(
        "the schema `tailwater` has version {found}, and this mirror knows {known} at most; run a newer one"
    )]
    SchemaTooNew {
        /// The version of the tables.
        found: i32,
        /// The newest that is known.
        known: i32,
    },
    /// The tables part streams in another way than this mirror.
    #[error(
        "`tailwater.leases` parts streams into {found}, and this mirror into {PARTITIONS}; run one of the version of \
         the others, or stop all of them and DELETE FROM tailwater.leases"
    )]
    Partitions {
        /// The number of partitions in the tables.
        found: i64,
    },
    /// There are no tables, or not all of them.
    #[error(
        "the schema `tailwater` lacks what the mirror needs: {message}; let the mirror migrate it at its start"
    )]
    SchemaMissing {
        /// What PostgreSQL says.
        message: String,
    },
    /// The user may not do that.
    #[error(
        "PostgreSQL does not let the mirror do its work: {message}; GRANT CREATE ON DATABASE lets its user make \
         the schema `tailwater`, or grant it USAGE on that schema, SELECT, INSERT and UPDATE on all tables there, \
         and DELETE on tailwater.instances"
    )]
    MissingRights {
        /// What PostgreSQL says.
        message: String,
    },
    /// There is no such database.
    #[error("{message}; create it with CREATE DATABASE, or name another one in the URL")]
    NoDatabase {
        /// What PostgreSQL says.
        message: String,
    },
    /// The user is unknown, its password is wrong, or `pg_hba.conf` does not let it in.
    #[error(
        "PostgreSQL does not let the mirror in: {message}; check user and password in the URL, \
         and the server's pg_hba.conf"
    )]
    NotLetIn {
        /// What PostgreSQL says.
        message: String,
    },
    /// The server only reads, as a replica does before and after it takes over.
    #[error(
        "PostgreSQL is read-only; the mirror waits until it takes writes, or name the primary in the URL"
    )]
    ReadOnly,
    /// There is no space.
    #[error("the disk of PostgreSQL is full: {message}; make room there")]
    DiskFull {
        /// What PostgreSQL says.
        message: String,
    },
    /// Something that passes: a deadlock, a lock that is held, a shutdown, too many connections, a statement that
    /// took too long.
    #[error("PostgreSQL could not do it now: {message} ({code})")]
    Busy {
        /// The SQLSTATE.
        code: String,
        /// What PostgreSQL says.
        message: String,
    },
    /// Anything else that PostgreSQL says.
    #[error("PostgreSQL refused: {message} ({code})")]
    Refused {
        /// The SQLSTATE.
        code: String,
        /// What PostgreSQL says.
        message: String,
    },
    /// An event cannot be a row, and is not to be a dead letter.
    #[error(
        "the event number {index} of {stream:?} cannot be a row: {reason}; let it be a dead letter, or delete the \
         stream"
    )]
    Unmappable {
        /// The stream.
        stream: String,
        /// Bytes of the stream before the end of the event.
        position: u64,
        /// Its number in its stream.
        index: u64,
        /// Why not.
        reason: String,
    },
    /// Tables of routes are not as these need them.
    #[error("{}", lines(faults))]
    Routes {
        /// At least one.
        faults: Vec<RouteFault>,
    },
    /// PostgreSQL does not make a table of a route, or writes nothing to it, as after somebody has changed it.
    #[error("route `{route}`: PostgreSQL refuses what it needs of {table}: {message} ({code})")]
    RoutedTable {
        /// The route's name.
        route: String,
        /// Its table.
        table: String,
        /// The SQLSTATE.
        code: String,
        /// What PostgreSQL says.
        message: String,
    },
    /// Something in a table is not what the mirror writes there.
    #[error("`tailwater.streams` has for {stream:?} {what}; it was changed by somebody else, restore it")]
    Foreign {
        /// The stream.
        stream: String,
        /// What is wrong.
        what: String,
    },
}

impl Error {
    /// Whether the same may go well later without anybody doing something about the mirror.
    #[must_use]
    pub fn heals(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::TimedOut { .. }
            | Self::ReadOnly
            | Self::DiskFull { .. }
            | Self::Busy { .. } => true,
            Self::Ca(_)
            | Self::Untrusted { .. }
            | Self::NoTls { .. }
            | Self::TooOld { .. }
            | Self::Encoding { .. }
            | Self::SchemaTooNew { .. }
            | Self::Partitions { .. }
            | Self::SchemaMissing { .. }
            | Self::MissingRights { .. }
            | Self::NoDatabase { .. }
            | Self::NotLetIn { .. }
            | Self::Refused { .. }
            | Self::Unmappable { .. }
            | Self::Routes { .. }
            | Self::RoutedTable { .. }
            | Self::Foreign { .. } => false,
        }
    }

    /// What kind of thing it is, as a label of metrics and a field of logs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Lost { .. } => "lost",
            Self::TimedOut { .. } => "timed_out",
            Self::Ca(_) => "ca",
            Self::Untrusted { .. } => "untrusted",
            Self::NoTls { .. } => "no_tls",
            Self::TooOld { .. } => "too_old",
            Self::Encoding { .. } => "encoding",
            Self::SchemaTooNew { .. } => "schema_too_new",
            Self::Partitions { .. } => "partitions",
            Self::SchemaMissing { .. } => "schema_missing",
            Self::MissingRights { .. } => "missing_rights",
            Self::NoDatabase { .. } => "no_database",
            Self::NotLetIn { .. } => "not_let_in",
            Self::ReadOnly => "read_only",
            Self::DiskFull { .. } => "disk_full",
            Self::Busy { .. } => "busy",
            Self::Refused { .. } => "refused",
            Self::Unmappable { .. } => "unmappable",
            Self::Routes { .. } => "routes",
            Self::RoutedTable { .. } => "routed_table",
            Self::Foreign { .. } => "foreign",
        }
    }

    /// What went wrong while a connection was made.
    pub(super) fn of_connecting(source: tokio_postgres::Error, address: &Address) -> Self {
        if let Some(said) = source.as_db_error() {
            return Self::said(said);
        }
        let address = address.clone();
        if let Some(reason) = tls_fault(&source) {
            return Self::Untrusted { address, reason };
        }
        // The library has no other way to tell this.
        if last_cause(&source) == "server does not support TLS" {
            return Self::NoTls { address };
        }
        Self::Unreachable { address, source }
    }

    /// What went wrong while a table of a route was written to, or made.
    pub(super) fn of_route(source: tokio_postgres::Error, route: &Route) -> Self {
        let said = source
            .as_db_error()
            .map(|said| (said.code().code().to_owned(), told(said)));
        match (Self::from(source), said) {
            (
                Self::MissingRights { .. } | Self::SchemaMissing { .. } | Self::Refused { .. },
                Some((code, message)),
            ) => Self::RoutedTable {
                route: route.name.clone(),
                table: route.table.to_string(),
                code,
                message,
            },
            (other, _) => other,
        }
    }

    /// What PostgreSQL says, in the mirror's terms.
    fn said(said: &DbError) -> Self {
        let code = said.code().code();
        let message = told(said);
        match code {
            "25006" => Self::ReadOnly,
            "53100" => Self::DiskFull { message },
            "42501" => Self::MissingRights { message },
            "3D000" => Self::NoDatabase { message },
            "42P01" | "42703" | "3F000" => Self::SchemaMissing { message },
            // A write that the disk had no room for may only say that it failed.
            _ if code == "58030" && said.message().contains("No space left") => Self::DiskFull { message },
            _ if code.starts_with("28") => Self::NotLetIn { message },
            // Connections, rollbacks, resources, objects in use, operators, the system.
            _ if ["08", "40", "53", "55", "57", "58"].contains(&class(code)) => Self::Busy {
                code: code.to_owned(),
                message,
            },
            _ => Self::Refused {
                code: code.to_owned(),
                message,
            },
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    /// What went wrong on a connection that had been made.
    fn from(source: tokio_postgres::Error) -> Self {
        match source.as_db_error() {
            Some(said) => Self::said(said),
            None => Self::Lost { source },
        }
    }
}

/// What kind of thing an SQLSTATE tells of.
pub(super) fn class(code: &str) -> &str {
    code.get(..2).unwrap_or(code)
}

fn lines(faults: &[RouteFault]) -> String {
    faults
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

pub(super) fn told(said: &DbError) -> String {
    match said.detail() {
        Some(detail) => format!("{}: {detail}", said.message()),
        None => said.message().to_owned(),
    }
}

fn causes<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// The library's own words say little; what happened is at the end of the chain.
fn last_cause(error: &tokio_postgres::Error) -> String {
    let last = causes(error).last();
    last.map(ToString::to_string).unwrap_or_default()
}

/// rustls tells its errors inside of IO errors, which are no `source` of theirs.
fn tls_fault(error: &tokio_postgres::Error) -> Option<rustls::Error> {
    causes(error).find_map(|cause| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let fault = match inner {
            Some(inner) => inner.downcast_ref::<rustls::Error>(),
            None => cause.downcast_ref::<rustls::Error>(),
        };
        fault.cloned()
    })
}
