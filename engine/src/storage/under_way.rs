//! What goes on while whoever began it does something else: one read or write of the disk. It begins when the
//! executor next comes to its reactor.

use std::pin::Pin;

use futures_lite::future;

/// An operation that has begun.
pub enum UnderWay<T> {
    /// It has ended already.
    Ended(T),
    /// Its first step goes on; those behind wait for [`UnderWay::end`].
    Going(Pin<Box<dyn Future<Output = T>>>),
}

impl<T> UnderWay<T> {
    /// Begins an operation, which owns all that it needs.
    pub async fn begin(operation: impl Future<Output = T> + 'static) -> Self {
        let mut operation = Box::pin(operation);
        match future::poll_once(&mut operation).await {
            Some(result) => Self::Ended(result),
            None => Self::Going(operation),
        }
    }

    /// Waits for its end.
    pub async fn end(self) -> T {
        match self {
            Self::Ended(result) => result,
            Self::Going(operation) => operation.await,
        }
    }
}
