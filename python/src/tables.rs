//! The tables of numbers and names, of which the package makes its enums: there is no other copy.

use pyo3::prelude::*;
use walengine_net::message::ErrorCode;
use walengine_net::model::{
    AccountFlags, CloseFlags, DescribeFlags, EventKind, GuardFlags, NameFlags, TransferFlags,
    Verdict,
};

/// Adds the functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(verdicts, module)?)?;
    module.add_function(wrap_pyfunction!(error_codes, module)?)?;
    module.add_function(wrap_pyfunction!(event_kinds, module)?)?;
    module.add_function(wrap_pyfunction!(flags, module)?)
}

/// Number, name, meaning, and whether it is of a malformed event, of each verdict.
#[pyfunction]
fn verdicts() -> Vec<(u8, &'static str, &'static str, bool)> {
    let row = |one: Verdict| (one.number(), one.name(), one.meaning(), one.is_malformed());
    Verdict::all().map(row).collect()
}

/// Number and name of each code of an error.
#[pyfunction]
fn error_codes() -> Vec<(u16, &'static str)> {
    let codes = (0..=u16::MAX).filter_map(ErrorCode::from_number);
    codes.map(|code| (code.number(), code.name())).collect()
}

/// Number and name of each kind of event.
#[pyfunction]
fn event_kinds() -> Vec<(u8, String)> {
    let kinds = (0..=u8::MAX).filter_map(|number| EventKind::try_from(number).ok());
    kinds.map(|kind| (kind as u8, snake_case(&format!("{kind:?}")))).collect()
}

/// Number and name of each flag of `account`, `transfer`, `guard`, `close`, `name` or `describe`.
#[pyfunction]
fn flags(of: &str) -> Vec<(u16, &'static str)> {
    let bits = (0..u16::BITS).map(|bit| 1 << bit);
    let names = |number: u16| match of {
        "account" => AccountFlags(number).names(),
        "transfer" => TransferFlags(number).names(),
        "guard" => GuardFlags(number).names(),
        "close" => CloseFlags(number).names(),
        "name" => NameFlags(number).names(),
        "describe" => DescribeFlags(number).names(),
        _ => Vec::new(),
    };
    bits.flat_map(|number| names(number).into_iter().map(move |name| (number, name))).collect()
}

fn snake_case(camel: &str) -> String {
    let mut snake = String::new();
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}
