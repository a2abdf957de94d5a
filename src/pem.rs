//! Files in PEM that settings name, as they were when they were read: which file is wrong, how, and what to do. Knows not
//! what their certificates are for.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject as _};

/// Of one file. The authorities of all the web together take a quarter of that.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is wrong with a file, whatever it is for. What is said follows the file's name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PemFault {
    #[error("cannot be read: {0}; name a file that the program may read")]
    Unreadable(#[source] io::Error),
    #[error("has more than {FILE_BYTES_MAX} bytes; name a file in PEM that has nothing else in it")]
    TooLong,
    #[error("is not PEM: {0}; copy the file again, or convert it with `openssl`")]
    NotPem(#[source] pem::Error),
    #[error(
        "has no {0} in PEM, which begins with a line such as -----BEGIN {1}-----; name the file that has it"
    )]
    Lacks(&'static str, &'static str),
}

/// One file, as it was when it was read.
#[derive(Debug)]
pub(crate) struct PemFile {
    /// The setting that names it.
    pub(crate) setting: &'static str,
    pub(crate) path: PathBuf,
    bytes: io::Result<Vec<u8>>,
}

impl PemFile {
    /// Reads a file. May take as long as the disk; that it cannot be read is told when it is used.
    pub(crate) fn read(setting: &'static str, path: &Path) -> Self {
        let read = |path| {
            let mut bytes = Vec::new();
            File::open(path)?
                .take(FILE_BYTES_MAX + 1)
                .read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        Self {
            setting,
            path: path.to_owned(),
            bytes: read(path),
        }
    }

    /// A file of this text.
    #[cfg(test)]
    pub(crate) fn holding(setting: &'static str, text: &str) -> Self {
        Self {
            setting,
            path: PathBuf::from(setting),
            bytes: Ok(text.into()),
        }
    }

    /// Whether both hold the same, or cannot be read for the same reason.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        match (&self.bytes, &other.bytes) {
            (Ok(one), Ok(other)) => one == other,
            (Err(one), Err(other)) => one.kind() == other.kind(),
            _ => false,
        }
    }

    /// What it holds.
    pub(crate) fn bytes(&self) -> Result<&[u8], PemFault> {
        match &self.bytes {
            Ok(bytes) if bytes.len() as u64 > FILE_BYTES_MAX => Err(PemFault::TooLong),
            Ok(bytes) => Ok(bytes),
            Err(error) => {
                // An error of the system is known by its number; it has to be told again each time it is met.
                let copy = error
                    .raw_os_error()
                    .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
                Err(PemFault::Unreadable(copy))
            }
        }
    }

    /// Its certificates, at least one.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PemFault> {
        let certificates = CertificateDer::pem_slice_iter(self.bytes()?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(PemFault::NotPem)?;
        if certificates.is_empty() {
            return Err(PemFault::Lacks("certificate", "CERTIFICATE"));
        }
        Ok(certificates)
    }
}
