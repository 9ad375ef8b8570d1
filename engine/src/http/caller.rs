//! Who has sent a request, as far as it was proven.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use walengine_net::identity::Identity;
use walengine_net::tls::Proven;

use super::problem::{Kind, Problem};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    proven: Option<Arc<Mutex<Proven>>>,
}

impl Caller {
    /// Of a connection with a certificate.
    pub fn proven(proven: &Arc<Mutex<Proven>>) -> Self {
        Self { proven: Some(proven.clone()) }
    }

    /// Who it is; `None` on a connection without TLS.
    ///
    /// # Errors
    /// The certificate has expired or was revoked since the connection began.
    pub fn identity(&self) -> Result<Option<Arc<Identity>>, Problem> {
        let Some(proven) = &self.proven else { return Ok(None) };
        let proven = proven.lock().unwrap_or_else(PoisonError::into_inner);
        proven.check().map_err(|refusal| Problem::new(Kind::Unproven, refusal))?;
        Ok(Some(proven.identity.clone()))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}
