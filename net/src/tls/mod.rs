//! TLS 1.3 with certificates on both sides, the same for servers, clients and peers.
//!
//! [`Credentials`] are what a program has in its directory: its own certificate and key, whom it believes,
//! who was revoked. [`Tls`] keeps them current while the program runs. [`Proven`] is what a connection's
//! other end has shown; [`Secured`] is the connection's TLS without any I/O of its own, and [`Stream`] a
//! socket that may have it.
//!
//! A certificate names exactly one [`Identity`](crate::identity::Identity). No session is resumed, so that
//! every connection shows a certificate which was good when it began.

mod credentials;
mod current;
mod prove;
mod secured;
mod sni;
mod stream;

pub use credentials::{
    CA_FILE, CERTIFICATE_FILE, Credentials, CredentialsError, KEY_FILE, REVOKED_FILE,
};
pub use current::{Proven, Tls};
pub use prove::{Expected, Refusal, Usage, explained, refusal_of};
pub use secured::Secured;
pub use sni::{Greeting, greeting, server_name};
pub use stream::Stream;
