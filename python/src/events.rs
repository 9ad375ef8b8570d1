//! Events to bytes and back, by the model's own code, and ids by the rules of PROTOCOL.md, section 6.

use pyo3::IntoPyObjectExt as _;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use walengine_net::client::new_event_id;
use walengine_net::limits::EVENTS_MAX;
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Book, Close, CloseFlags, Code, Describe,
    DescribeFlags, EVENT_BYTES, Event, EventBytes, EventId, Guard, GuardFlags, LedgerId, Name,
    NameFlags, NameText, Resolved, Timestamp, Transfer, TransferFlags, event_kind,
};
use walengine_net::names;

use crate::limits::{NEW_IDS_MAX, SUBMISSION_EVENTS_MAX};

const _: () = assert!(SUBMISSION_EVENTS_MAX > EVENTS_MAX && NEW_IDS_MAX.is_power_of_two());

/// Adds the functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(encode_account, module)?)?;
    module.add_function(wrap_pyfunction!(encode_transfer, module)?)?;
    module.add_function(wrap_pyfunction!(encode_guard, module)?)?;
    module.add_function(wrap_pyfunction!(encode_close, module)?)?;
    module.add_function(wrap_pyfunction!(encode_name, module)?)?;
    module.add_function(wrap_pyfunction!(encode_describe, module)?)?;
    module.add_function(wrap_pyfunction!(decode, module)?)?;
    module.add_function(wrap_pyfunction!(event_id, module)?)?;
    module.add_function(wrap_pyfunction!(account_id, module)?)?;
    module.add_function(wrap_pyfunction!(new_id, module)?)?;
    module.add_function(wrap_pyfunction!(new_ids, module)?)
}

/// Events side by side, copied once from where Python has them: it may change them while they are on their way.
#[derive(Debug)]
pub struct Events(Vec<u8>);

impl Events {
    /// Those in a buffer.
    ///
    /// # Errors
    /// Its length is no multiple of an event's, or past the limit.
    pub fn in_buffer(py: Python<'_>, buffer: &PyBuffer<u8>) -> PyResult<Self> {
        let (bytes, events_max) = (buffer.len_bytes(), SUBMISSION_EVENTS_MAX);
        if !bytes.is_multiple_of(EVENT_BYTES) {
            let message =
                format!("{bytes} bytes are no whole number of events of {EVENT_BYTES} bytes");
            return Err(PyValueError::new_err(message));
        }
        if bytes / EVENT_BYTES > events_max {
            let message = format!("more than {events_max} events at once: submit them in parts");
            return Err(PyValueError::new_err(message));
        }
        buffer.to_vec(py).map(Self)
    }

    /// The same as accounts, whatever their flags say of their kind.
    pub fn into_accounts(mut self) -> Self {
        for event in self.0.as_chunks_mut().0 {
            *event = Account::from_bytes(event).to_bytes();
        }
        self
    }

    /// They.
    pub fn as_slice(&self) -> &[EventBytes] {
        self.0.as_chunks().0
    }
}

/// Bytes of an account, as a request to create it or as a state.
#[pyfunction]
fn encode_account(
    py: Python<'_>,
    id: u128,
    debits_pending: u128,
    debits_posted: u128,
    credits_pending: u128,
    credits_posted: u128,
    user_data_128: u128,
    user_data_64: u64,
    version: u64,
    ledger: u32,
    code: u16,
    flags: u16,
    timestamp: u64,
) -> Py<PyBytes> {
    let account = Account {
        id: AccountId(id),
        debits_pending: Amount(debits_pending),
        debits_posted: Amount(debits_posted),
        credits_pending: Amount(credits_pending),
        credits_posted: Amount(credits_posted),
        user_data_128,
        user_data_64,
        version,
        ledger: LedgerId(ledger),
        code: Code(code),
        flags: AccountFlags(flags),
        timestamp: Timestamp(timestamp),
    };
    PyBytes::new(py, &account.to_bytes()).unbind()
}

/// Bytes of a transfer.
#[pyfunction]
fn encode_transfer(
    py: Python<'_>,
    id: u128,
    debit_account_id: u128,
    credit_account_id: u128,
    amount: u128,
    pending_id: u128,
    user_data_128: u128,
    user_data_64: u64,
    user_data_32: u32,
    timeout_seconds: u32,
    ledger: u32,
    code: u16,
    flags: u16,
    timestamp: u64,
) -> Py<PyBytes> {
    let transfer = Transfer {
        id: EventId(id),
        debit_account_id: AccountId(debit_account_id),
        credit_account_id: AccountId(credit_account_id),
        amount: Amount(amount),
        pending_id: EventId(pending_id),
        user_data_128,
        user_data_64,
        user_data_32,
        timeout_seconds,
        ledger: LedgerId(ledger),
        code: Code(code),
        flags: TransferFlags(flags),
        timestamp: Timestamp(timestamp),
    };
    PyBytes::new(py, &transfer.to_bytes()).unbind()
}

/// Bytes of a guard.
#[pyfunction]
fn encode_guard(
    py: Python<'_>,
    id: u128,
    account_id: u128,
    available: u128,
    version: u64,
    flags: u16,
) -> Py<PyBytes> {
    let guard = Guard {
        id: EventId(id),
        account_id: AccountId(account_id),
        available: Amount(available),
        version,
        flags: GuardFlags(flags),
    };
    PyBytes::new(py, &guard.to_bytes()).unbind()
}

/// Bytes of the closing or reopening of an account.
#[pyfunction]
fn encode_close(py: Python<'_>, id: u128, account_id: u128, flags: u16) -> Py<PyBytes> {
    let close =
        Close { id: EventId(id), account_id: AccountId(account_id), flags: CloseFlags(flags) };
    PyBytes::new(py, &close.to_bytes()).unbind()
}

/// Bytes of an account's naming.
///
/// # Errors
/// The text can't be a name.
#[pyfunction]
fn encode_name(
    py: Python<'_>,
    id: u128,
    account_id: u128,
    name: &str,
    flags: u16,
) -> PyResult<Py<PyBytes>> {
    let name = Name {
        id: EventId(id),
        account_id: AccountId(account_id),
        name: name_text(name)?,
        flags: NameFlags(flags),
    };
    Ok(PyBytes::new(py, &name.to_bytes()).unbind())
}

/// Bytes of a ledger's description.
///
/// # Errors
/// The text can't be a name.
#[pyfunction]
fn encode_describe(
    py: Python<'_>,
    id: u128,
    ledger: u32,
    name: &str,
    scale: u8,
    flags: u16,
) -> PyResult<Py<PyBytes>> {
    let describe = Describe {
        id: EventId(id),
        ledger: LedgerId(ledger),
        name: name_text(name)?,
        scale,
        flags: DescribeFlags(flags),
    };
    Ok(PyBytes::new(py, &describe.to_bytes()).unbind())
}

fn name_text(text: &str) -> PyResult<NameText> {
    NameText::new(text).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Number of an event's kind, and its fields in the order in which they are encoded. `None` instead of the
/// fields of what only leaders write.
///
/// # Errors
/// These are not the bytes of an event.
#[pyfunction]
fn decode<'py>(py: Python<'py>, event: &[u8]) -> PyResult<(u8, Bound<'py, PyAny>)> {
    let wrong = |what: String| PyValueError::new_err(what);
    let bytes: &EventBytes = event.try_into().map_err(|_| {
        wrong(format!("an event has {EVENT_BYTES} bytes, and these are {}", event.len()))
    })?;
    let kind = event_kind(bytes).map_err(|kind| wrong(format!("no event has the kind {kind}")))?;
    let text =
        |name: &NameText| name.text().map(str::to_owned).ok_or_else(|| wrong("no name".into()));
    let fields = match Event::from_bytes(bytes) {
        Ok(Event::Account(of)) => account_fields(py, &of),
        Ok(Event::Transfer(of)) => transfer_fields(py, &of),
        Ok(Event::Guard(of)) => {
            (of.id.0, of.account_id.0, of.available.0, of.version, of.flags.0).into_bound_py_any(py)
        }
        Ok(Event::Close(of)) => (of.id.0, of.account_id.0, of.flags.0).into_bound_py_any(py),
        Ok(Event::Name(of)) => {
            (of.id.0, of.account_id.0, text(&of.name)?, of.flags.0).into_bound_py_any(py)
        }
        Ok(Event::Describe(of)) => {
            (of.id.0, of.ledger.0, text(&of.name)?, of.scale, of.flags.0).into_bound_py_any(py)
        }
        _ => Ok(py.None().into_bound(py)),
    };
    Ok((kind as u8, fields?))
}

fn account_fields<'py>(py: Python<'py>, of: &Account) -> PyResult<Bound<'py, PyAny>> {
    let fields = (
        of.id.0,
        of.debits_pending.0,
        of.debits_posted.0,
        of.credits_pending.0,
        of.credits_posted.0,
        of.user_data_128,
        of.user_data_64,
        of.version,
        of.ledger.0,
        of.code.0,
        of.flags.0,
        of.timestamp.0,
    );
    fields.into_bound_py_any(py)
}

fn transfer_fields<'py>(py: Python<'py>, of: &Transfer) -> PyResult<Bound<'py, PyAny>> {
    let fields = (
        of.id.0,
        of.debit_account_id.0,
        of.credit_account_id.0,
        of.amount.0,
        of.pending_id.0,
        of.user_data_128,
        of.user_data_64,
        of.user_data_32,
        of.timeout_seconds,
        of.ledger.0,
        of.code.0,
        of.flags.0,
    );
    // A tuple that Python takes has twelve fields at most.
    let mut all: Vec<Bound<'py, PyAny>> = fields.into_bound_py_any(py)?.extract()?;
    all.push(of.timestamp.0.into_bound_py_any(py)?);
    all.into_bound_py_any(py)
}

/// What an event moved that does not tell it itself: accounts, amount, ledger, code.
pub type ResolvedFields = (u128, u128, u128, u32, u16);

/// The fields of a resolution.
pub fn resolved_fields(of: &Resolved) -> ResolvedFields {
    (of.debit_account_id.0, of.credit_account_id.0, of.amount.0, of.ledger.0, of.code.0)
}

/// Id of an event by its text.
#[pyfunction]
fn event_id(text: &str) -> PyResult<u128> {
    bare(text).map(|text| names::event_id(text).0)
}

/// Id of an account by its text.
#[pyfunction]
fn account_id(text: &str, book: u32) -> PyResult<u128> {
    bare(text).map(|text| names::account_id(Book(book), text).0)
}

/// A text that is the id which it seems to be.
fn bare(text: &str) -> PyResult<&str> {
    if names::decorates_uuid(text) {
        return Err(PyValueError::new_err(format!("{text:?}: {}", names::DECORATED_UUID)));
    }
    Ok(text)
}

/// A new id for an event.
#[pyfunction]
fn new_id() -> u128 {
    new_event_id().0
}

/// New ids in the form that they have in events, 16 bytes each: one that is drawn, with its lower bits counted
/// up. To draw each takes as long as to send its transfer. Some forty bits, drawn for each millisecond, and
/// ten for each call, keep those of other callers apart.
///
/// # Errors
/// More than the limit.
#[pyfunction]
fn new_ids(py: Python<'_>, count: usize) -> PyResult<Py<PyBytes>> {
    if count > NEW_IDS_MAX {
        return Err(PyValueError::new_err(format!("more than {NEW_IDS_MAX} ids at once")));
    }
    let first = new_event_id().0 & !(NEW_IDS_MAX as u128 - 1);
    let ids: Vec<[u8; 16]> = (0..count as u128).map(|at| (first | at).to_le_bytes()).collect();
    Ok(PyBytes::new(py, ids.as_flattened()).unbind())
}
