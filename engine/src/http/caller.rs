//! Who has sent a request, as far as it was proven.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use walengine_net::identity::Identity;
use walengine_net::tls::{Proven, Tls, Usage};

use super::problem::{Kind, Problem};
use crate::limits::HTTP_HANDSHAKE_WITHIN;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    proven: Option<Arc<Mutex<Proven>>>,
}

/// Why a connection proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unproven {
    /// It took too long.
    Slow,
    /// Its certificate is not believed, or there is none.
    Refused,
}

impl Caller {
    /// Has both ends of a connection prove who they are.
    ///
    /// # Errors
    /// The other end has not.
    pub async fn prove<S: AsyncRead + AsyncWrite + Unpin>(
        tls: &Arc<Tls>,
        stream: S,
    ) -> Result<(TlsStream<S>, Self), Unproven> {
        let credentials = tls.current();
        let config = credentials.serve_clients().ok_or(Unproven::Refused)?.clone();
        let shaken = timeout(HTTP_HANDSHAKE_WITHIN, TlsAcceptor::from(config).accept(stream)).await;
        let stream = shaken.map_err(|_| Unproven::Slow)?.map_err(|_| Unproven::Refused)?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
        let proven =
            tls.proven_by_chain(&credentials, chain, Usage::Client).map_err(|refusal| {
                tracing::debug!("a client's certificate: {refusal}"); // the handshake has refused it already
                Unproven::Refused
            })?;
        Ok((stream, Self { proven: Some(Arc::new(Mutex::new(proven))) }))
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
