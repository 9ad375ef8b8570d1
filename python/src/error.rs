//! Errors of the client as exceptions of the package, each of which says whether anything may have happened.

use pyo3::IntoPyObjectExt as _;
use pyo3::prelude::*;
use walengine_net::client::ClientError;
use walengine_net::message::ErrorCode;
use walengine_net::tls::CredentialsError;

/// Where the package has its exceptions.
const MODULE: &str = "walengine._errors";

/// Why a call has no answer.
#[derive(Debug)]
pub struct Failure {
    /// Name of the exception's class, if nothing was changed.
    class: &'static str,
    message: String,
    code: Option<ErrorCode>,
    retry_after_seconds: f64,
    may_have_changed: bool,
}

impl Failure {
    /// Of a read, which changes nothing.
    pub fn of_read(error: ClientError) -> Self {
        Self {
            class: class(&error),
            code: error.code(),
            retry_after_seconds: match &error {
                ClientError::Refused { retry_after, .. } => retry_after.as_secs_f64(),
                _ => 0.0,
            },
            message: error.to_string(),
            may_have_changed: false,
        }
    }

    /// Of a write of one batch.
    pub fn of_write(error: ClientError) -> Self {
        let may_have_changed = may_have_changed(&error);
        Self { may_have_changed, ..Self::of_read(error) }
    }

    /// Of a write of several batches, `answered` of which were answered, and of whose others this was the
    /// first error. `may_have_changed`: that of any of the errors.
    pub fn of_batches(
        error: ClientError,
        may_have_changed: bool,
        answered: usize,
        batches: usize,
    ) -> Self {
        let one = Self::of_write(error);
        if batches == 1 {
            return one;
        }
        let message = format!(
            "{answered} of {batches} batches were answered, and then: {}; the same events can be sent \
             again, which is safe",
            one.message
        );
        Self { message, may_have_changed: may_have_changed || answered > 0, ..one }
    }

    /// Of credentials that can't be used.
    pub fn of_credentials(error: &CredentialsError) -> Self {
        Self {
            class: "Insecure",
            message: error.to_string(),
            code: None,
            retry_after_seconds: 0.0,
            may_have_changed: false,
        }
    }

    /// The exception.
    pub fn into_exception(self, py: Python<'_>) -> PyErr {
        let make = || -> PyResult<Bound<'_, PyAny>> {
            let code = self.code.map(ErrorCode::number).into_bound_py_any(py)?;
            let fields =
                (self.class, self.message, code, self.retry_after_seconds, self.may_have_changed);
            py.import(MODULE)?.getattr("make")?.call1(fields)
        };
        make().map_or_else(|error| error, PyErr::from_value)
    }
}

/// Whether a write that ended so may have taken effect. An answer that makes no sense, an unknown code and
/// the end of the client say nothing of what the server did.
pub fn may_have_changed(error: &ClientError) -> bool {
    match error {
        ClientError::OutcomeUnknown { .. } | ClientError::Answer(_) | ClientError::Closed => true,
        ClientError::Refused { code, .. } => code.is_none_or(ErrorCode::may_have_changed),
        _ => false,
    }
}

fn class(error: &ClientError) -> &'static str {
    match error {
        ClientError::Unreachable { .. } => "Unreachable",
        ClientError::Insecure { .. } => "Insecure",
        ClientError::NotWalengine { .. } => "NotWalengine",
        ClientError::Version { .. } => "VersionDiffers",
        ClientError::Refused { .. } => "RequestRefused",
        ClientError::NoLeader { .. } => "NoLeader",
        ClientError::Deadline { .. } | ClientError::OutcomeUnknown { .. } => "DeadlineExceeded",
        ClientError::TooMany { .. } => "TooMany",
        ClientError::Unroutable { .. } => "Unroutable",
        ClientError::WrongCluster { .. } => "WrongCluster",
        ClientError::Answer(_) => "BadAnswer",
        ClientError::Closed => "ClientClosed",
        _ => "NothingChanged",
    }
}
