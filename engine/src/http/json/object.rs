//! What must be an object in JSON. Derived readers would take a list as well, field by field in the order of the
//! source: no document says so, and a field that is added later would give such a list another meaning.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::text::bounded;

/// A value that was given by the names of its fields.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(OfFields(PhantomData)).map(Self)
    }
}

/// As [`bounded`], of objects.
pub fn bounded_objects<'de, D, T, const N: usize>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let objects = bounded::<_, Object<T>, N>(from)?;
    Ok(objects.into_iter().map(|Object(value)| value).collect())
}

struct OfFields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OfFields<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object in JSON, such as {\"id\": \"…\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::json::{GivenEvent, GivenTransfer};

    #[test]
    fn fields_are_given_by_their_names_alone() {
        let named = r#"{"type": "transfer", "id": "a", "amount": "7", "ledger": 1, "code": 1}"#;
        assert!(serde_json::from_str::<Object<GivenTransfer>>(named).is_ok());
        assert!(serde_json::from_str::<Object<GivenEvent>>(named).is_ok());
        let in_order =
            r#"["transfer", "a", "b", "c", null, "7", 1, 1, [], null, 0, "0", "0", 0, false]"#;
        for refused in
            [in_order, r#"["close", {"id": "a", "account": "b"}]"#, "[]", "null", "\"a\""]
        {
            let why = serde_json::from_str::<Object<GivenTransfer>>(refused).unwrap_err();
            assert!(why.to_string().contains("expected an object"), "{refused}: {why}");
            let why = serde_json::from_str::<Object<GivenEvent>>(refused).unwrap_err();
            assert!(why.to_string().contains("expected an object"), "{refused}: {why}");
        }
    }
}
