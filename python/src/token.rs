//! Tokens: what an acknowledgement hands to later reads.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use walengine_net::model;

/// Carried by an acknowledgement. A reader that is given it answers with a state that includes the write.
/// Its text is the one that the command line and SQL take.
#[pyclass(frozen, eq, hash, from_py_object, module = "walengine._native")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub model::Token);

#[pymethods]
impl Token {
    /// Of its text, `cluster-partition-offset`.
    #[new]
    #[pyo3(signature = (text, /))]
    fn new(text: &str) -> PyResult<Self> {
        text.parse().map(Self).map_err(PyValueError::new_err)
    }

    /// The cluster that acknowledged.
    #[getter]
    fn cluster(&self) -> u128 {
        self.0.cluster.0
    }

    /// The partition of the write.
    #[getter]
    fn partition(&self) -> u16 {
        self.0.partition.0
    }

    /// The newest record that a reader must have seen.
    #[getter]
    fn offset(&self) -> u64 {
        self.0.offset.0
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("Token('{}')", self.0)
    }

    fn __getnewargs__(&self) -> (String,) {
        (self.0.to_string(),)
    }
}

/// Tokens of Python as those of the client.
pub fn models(tokens: Vec<Token>) -> Vec<model::Token> {
    tokens.into_iter().map(|token| token.0).collect()
}
