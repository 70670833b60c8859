//! What can go wrong at a storage system, sorted by what the caller can do about it.

use std::{fmt, io, time::Duration};

use serde::{Deserialize, Serialize};

/// What the caller of a failed operation can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// Try again, not before `after` when the other side named a time.
    Retry {
        /// The wait the other side asked for (`Retry-After`).
        after: Option<Duration>,
    },
    /// The object is not the one that was pinned: start over with the new one.
    SourceChanged,
    /// Trying again cannot help; a person has to change something.
    Fatal,
    /// The caller itself asked to stop.
    Canceled,
}

/// A stable name of a cause. Each is listed, with what to do, in `control/ERRORS.md`; REST problems and the `error` of
/// a failed transfer carry the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// The URL cannot be parsed or lacks something.
    InvalidUrl,
    /// No module for this scheme, or it is not switched on.
    UnsupportedScheme,
    /// An option is unknown or has a wrong value.
    InvalidOption,
    /// The named credential does not exist for this owner, does not fit, or cannot be read.
    CredentialUnusable,
    /// The path lies outside every configured root (symbolic links included).
    PathOutsideRoots,
    /// The root does not allow writing.
    RootReadOnly,
    /// The source does not exist.
    SourceMissing,
    /// The source is a directory, device, socket or pipe.
    SourceNotRegular,
    /// The bucket or container in which the object lies, or shall lie, does not exist.
    BucketMissing,
    /// The folder of the destination does not exist.
    DestinationFolderMissing,
    /// The destination is a directory or a device.
    DestinationNotRegular,
    /// The destination exists and `overwrite` is `never`.
    DestinationExists,
    /// Another transfer writes to the destination.
    DestinationBusy,
    /// The operating system or server denied access.
    PermissionDenied,
    /// The requested part does not lie within the object.
    RangeOutsideObject,
    /// The destination has no space or quota left.
    NoSpace,
    /// Reading from the source failed.
    ReadFailed,
    /// Writing to the destination failed.
    WriteFailed,
    /// `fdatasync` failed: what was written since the last checkpoint is not trusted.
    SyncFailed,
    /// The source changed while it was being read.
    SourceChanged,
    /// No connection could be made.
    ConnectFailed,
    /// The peer's certificate or the TLS handshake was refused.
    TlsFailed,
    /// The connection broke before everything had arrived.
    ConnectionLost,
    /// Nothing, or next to nothing, arrived for the stall time-out.
    Stalled,
    /// The total time-out passed.
    TimedOut,
    /// The server answered with an error status.
    HttpStatus,
    /// The server broke its own protocol (lied about length, ranges or encoding).
    ProtocolViolation,
    /// A redirect was refused: too many, to a weaker scheme or to another kind.
    RedirectRefused,
    /// The bytes do not have the checksum that was requested or published.
    ChecksumMismatch,
    /// The partial is held by an attempt that does not let go.
    PartialBusy,
    /// The kernel or its sandbox does not offer io_uring.
    IoUringUnavailable,
    /// The attempt lost its lease.
    LeaseLost,
    /// Canceled by a client.
    Canceled,
    /// A defect of Staccato itself.
    Internal,
}

impl Code {
    /// Every code, in the order of their declaration.
    pub const ALL: [Self; 34] = [
        Self::InvalidUrl,
        Self::UnsupportedScheme,
        Self::InvalidOption,
        Self::CredentialUnusable,
        Self::PathOutsideRoots,
        Self::RootReadOnly,
        Self::SourceMissing,
        Self::SourceNotRegular,
        Self::BucketMissing,
        Self::DestinationFolderMissing,
        Self::DestinationNotRegular,
        Self::DestinationExists,
        Self::DestinationBusy,
        Self::PermissionDenied,
        Self::RangeOutsideObject,
        Self::NoSpace,
        Self::ReadFailed,
        Self::WriteFailed,
        Self::SyncFailed,
        Self::SourceChanged,
        Self::ConnectFailed,
        Self::TlsFailed,
        Self::ConnectionLost,
        Self::Stalled,
        Self::TimedOut,
        Self::HttpStatus,
        Self::ProtocolViolation,
        Self::RedirectRefused,
        Self::ChecksumMismatch,
        Self::PartialBusy,
        Self::IoUringUnavailable,
        Self::LeaseLost,
        Self::Canceled,
        Self::Internal,
    ];

    /// The stable spelling, as it appears in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidUrl => "invalid_url",
            Self::UnsupportedScheme => "unsupported_scheme",
            Self::InvalidOption => "invalid_option",
            Self::CredentialUnusable => "credential_unusable",
            Self::PathOutsideRoots => "path_outside_roots",
            Self::RootReadOnly => "root_read_only",
            Self::SourceMissing => "source_missing",
            Self::SourceNotRegular => "source_not_regular",
            Self::BucketMissing => "bucket_missing",
            Self::DestinationFolderMissing => "destination_folder_missing",
            Self::DestinationNotRegular => "destination_not_regular",
            Self::DestinationExists => "destination_exists",
            Self::DestinationBusy => "destination_busy",
            Self::PermissionDenied => "permission_denied",
            Self::RangeOutsideObject => "range_outside_object",
            Self::NoSpace => "no_space",
            Self::ReadFailed => "read_failed",
            Self::WriteFailed => "write_failed",
            Self::SyncFailed => "sync_failed",
            Self::SourceChanged => "source_changed",
            Self::ConnectFailed => "connect_failed",
            Self::TlsFailed => "tls_failed",
            Self::ConnectionLost => "connection_lost",
            Self::Stalled => "stalled",
            Self::TimedOut => "timed_out",
            Self::HttpStatus => "http_status",
            Self::ProtocolViolation => "protocol_violation",
            Self::RedirectRefused => "redirect_refused",
            Self::ChecksumMismatch => "checksum_mismatch",
            Self::PartialBusy => "partial_busy",
            Self::IoUringUnavailable => "io_uring_unavailable",
            Self::LeaseLost => "lease_lost",
            Self::Canceled => "canceled",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed operation: a stable code, a sentence for people, and what the caller can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Error {
    /// The cause.
    pub code: Code,
    /// What the caller can do.
    pub disposition: Disposition,
    /// One sentence that names the object and says what to do.
    pub message: String,
}

impl Error {
    /// An error that a later try may not meet.
    pub fn retry(code: Code, message: impl Into<String>) -> Self {
        Self { code, disposition: Disposition::Retry { after: None }, message: message.into() }
    }

    /// An error that stays until a person changes something.
    pub fn fatal(code: Code, message: impl Into<String>) -> Self {
        Self { code, disposition: Disposition::Fatal, message: message.into() }
    }

    /// The object is not the pinned one any more.
    pub fn source_changed(message: impl Into<String>) -> Self {
        Self { code: Code::SourceChanged, disposition: Disposition::SourceChanged, message: message.into() }
    }

    /// The caller asked to stop.
    pub fn canceled() -> Self {
        Self { code: Code::Canceled, disposition: Disposition::Canceled, message: "canceled".into() }
    }

    /// The same error with the wait that the other side asked for.
    pub fn after(mut self, wait: Duration) -> Self {
        if let Disposition::Retry { after } = &mut self.disposition {
            *after = Some(wait);
        }
        self
    }

    /// An operating system error met while `doing` (for instance "write /a/b"); `otherwise` is the code of errors that
    /// have none of their own.
    pub fn from_io(error: &io::Error, otherwise: Code, doing: impl fmt::Display) -> Self {
        use io::ErrorKind as Kind;
        let message = format!("cannot {doing}: {error}");
        match error.kind() {
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Self::fatal(Code::PermissionDenied, message),
            Kind::StorageFull | Kind::QuotaExceeded => {
                Self::retry(Code::NoSpace, format!("{message}; free space there, then run it again"))
            }
            _ => Self::retry(otherwise, message),
        }
    }

    /// Whether a later try may succeed without a person's help.
    pub fn is_retryable(&self) -> bool {
        matches!(self.disposition, Disposition::Retry { .. } | Disposition::SourceChanged)
    }
}

/// [`Code::ALL`] leaves no code out: declared behind the last one, a code would change this number.
const _: () = assert!(Code::ALL.len() == Code::Internal as usize + 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_spelt_alike_everywhere() {
        for (place, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, place, "{code}");
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
