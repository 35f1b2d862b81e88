//! Plain objects of JavaScript's, read and written field by field.
//!
//! By hand: a derived reader or writer is compiled once for each type, and a page downloads every copy.

use js_sys::{Array, Object, Reflect, Uint8Array};
use tinkex_protocol::Map;
use wasm_bindgen::{JsCast, JsValue};

use crate::error::Error;

/// Whole numbers up to here are exact in JavaScript.
const EXACT: f64 = 9_007_199_254_740_991.0;

/// An object to read from. A field that is `undefined` or `null` isn't there.
pub struct Given(pub JsValue);

impl Given {
    pub fn get(&self, name: &str) -> Option<JsValue> {
        let value = Reflect::get(&self.0, &JsValue::from_str(name)).ok()?;
        (!value.is_undefined() && !value.is_null()).then_some(value)
    }

    pub fn object(&self, name: &str) -> Result<Given, Error> {
        self.get(name).map(Given).ok_or_else(|| missing(name))
    }

    pub fn optional_text(&self, name: &str) -> Result<Option<String>, Error> {
        self.get(name).map(|value| value.as_string().ok_or_else(|| wrong(name, "a string"))).transpose()
    }

    pub fn text(&self, name: &str) -> Result<String, Error> {
        self.optional_text(name)?.ok_or_else(|| missing(name))
    }

    pub fn optional_number(&self, name: &str) -> Result<Option<f64>, Error> {
        self.get(name).map(|value| value.as_f64().ok_or_else(|| wrong(name, "a number"))).transpose()
    }

    pub fn number(&self, name: &str) -> Result<f64, Error> {
        self.optional_number(name)?.ok_or_else(|| missing(name))
    }

    pub fn optional_whole(&self, name: &str) -> Result<Option<i64>, Error> {
        match self.optional_number(name)? {
            Some(number) if number.trunc() != number || number.abs() > EXACT => {
                Err(wrong(name, "a whole number"))
            }
            number => Ok(number.map(|number| number as i64)),
        }
    }

    pub fn optional_count(&self, name: &str) -> Result<Option<u32>, Error> {
        let count = |number| u32::try_from(number).map_err(|_| wrong(name, "a count"));
        self.optional_whole(name)?.map(count).transpose()
    }

    pub fn count(&self, name: &str) -> Result<u32, Error> {
        self.optional_count(name)?.ok_or_else(|| missing(name))
    }

    pub fn optional_flag(&self, name: &str) -> Result<Option<bool>, Error> {
        self.get(name).map(|value| value.as_bool().ok_or_else(|| wrong(name, "a boolean"))).transpose()
    }

    pub fn flag(&self, name: &str) -> Result<bool, Error> {
        self.optional_flag(name)?.ok_or_else(|| missing(name))
    }

    pub fn bytes(&self, name: &str) -> Result<Vec<u8>, Error> {
        let value = self.get(name).ok_or_else(|| missing(name))?;
        Ok(value.dyn_ref::<Uint8Array>().ok_or_else(|| wrong(name, "a Uint8Array"))?.to_vec())
    }

    pub fn list(&self, name: &str) -> Result<Array, Error> {
        let value = self.get(name).ok_or_else(|| missing(name))?;
        value.dyn_into().map_err(|_| wrong(name, "an array"))
    }

    /// The values of an object by their names, in its order; none where there is no such object.
    pub fn entries(&self, name: &str) -> Vec<(String, JsValue)> {
        let Some(value) = self.get(name) else { return Vec::new() };
        let names = Object::keys(value.unchecked_ref::<Object>());
        let given = Given(value);
        (0..names.length())
            .filter_map(|at| {
                let name = names.get(at).as_string()?;
                let value = given.get(&name)?;
                Some((name, value))
            })
            .collect()
    }

    /// Texts by name.
    pub fn texts(&self, name: &str) -> Result<Map<String>, Error> {
        let mut texts = Vec::new();
        for (key, value) in self.entries(name) {
            texts.push((key, value.as_string().ok_or_else(|| wrong(name, "an object of strings"))?));
        }
        Ok(texts.into_iter().collect())
    }

    pub fn optional_texts(&self, name: &str) -> Result<Option<Map<String>>, Error> {
        match self.get(name) {
            Some(_) => self.texts(name).map(Some),
            None => Ok(None),
        }
    }
}

#[cold]
fn missing(name: &str) -> Error {
    wrong(name, "there")
}

#[cold]
pub fn wrong(name: &str, what: &str) -> Error {
    Error::invalid(name, format!("{name} must be {what}"))
}

/// An object to give.
pub struct Plain(Object);

impl Plain {
    pub fn new() -> Plain {
        Plain(Object::new())
    }

    pub fn with(self, name: &str, value: JsValue) -> Plain {
        self.set(name, &value);
        self
    }

    pub fn text(self, name: &str, text: &str) -> Plain {
        self.with(name, JsValue::from_str(text))
    }

    pub fn number(self, name: &str, number: f64) -> Plain {
        self.with(name, JsValue::from_f64(number))
    }

    pub fn flag(self, name: &str, flag: bool) -> Plain {
        self.with(name, JsValue::from_bool(flag))
    }

    pub fn bytes(self, name: &str, bytes: &[u8]) -> Plain {
        self.with(name, Uint8Array::from(bytes).into())
    }

    pub fn set(&self, name: &str, value: &JsValue) {
        // A new object of our own takes any field.
        let _ = Reflect::set(&self.0, &JsValue::from_str(name), value);
    }

    pub fn done(self) -> JsValue {
        self.0.into()
    }
}

/// An array of what is given.
pub fn array(values: impl IntoIterator<Item = JsValue>) -> JsValue {
    let array = Array::new();
    for value in values {
        array.push(&value);
    }
    array.into()
}
