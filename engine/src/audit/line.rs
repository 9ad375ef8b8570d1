//! One line of the trail. Pure but for the clock and the id.

use std::time::SystemTime;

use serde_json::{Map, Value, json};
use walengine_net::text::json_escaped;

use crate::caller::Caller;
use crate::limits::AUDIT_MESSAGE_BYTES_MAX;

/// What somebody wants done: a name and what it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    name: &'static str,
    arguments: Map<String, Value>,
}

impl Order {
    /// An order without arguments yet.
    pub fn new(name: &'static str) -> Self {
        Self { name, arguments: Map::new() }
    }

    /// The same with one more argument.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(name.to_owned(), value.into());
        self
    }
}

/// Tells one order from all others.
pub fn id() -> String {
    let mut id = uuid::Uuid::new_v4().simple().to_string();
    id.truncate(16);
    id
}

/// A line with its end. The order of its fields is that in which a person reads them.
pub fn line(id: &str, order: &Order, caller: &Caller, outcome: &str, message: &str) -> String {
    let time = chrono::DateTime::<chrono::Utc>::from(SystemTime::now());
    let time = time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let none = || "none".to_owned();
    let identity = caller.identity.as_ref().map_or_else(none, |identity| identity.uri());
    let address = caller.address.map_or_else(none, |address| address.to_string());
    let mut fields = vec![
        ("time", json!(time)),
        ("id", json!(id)),
        ("order", json!(order.name)),
        ("arguments", Value::Object(order.arguments.clone())),
        ("identity", json!(identity)),
        ("address", json!(address)),
        ("outcome", json!(outcome)),
    ];
    if !message.is_empty() {
        let message = walengine_net::message::bounded(message, AUDIT_MESSAGE_BYTES_MAX);
        fields.push(("message", json!(message)));
    }
    let fields = fields.iter().map(|(name, value)| format!("\"{name}\":{value}"));
    let object = format!("{{{}}}", fields.collect::<Vec<_>>().join(","));
    format!("{}\n", json_escaped(&object))
}
