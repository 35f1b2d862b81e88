//! Numbers with a fraction, as text and back. JavaScript prints the shortest text that reads back as the same number, and
//! so does Rust; but Rust brings the tables for it along, a tenth of what a page would download.

#[cfg(target_arch = "wasm32")]
pub use super::browser::{read_number as read, write_number as write};

/// Of a finite number.
#[cfg(not(target_arch = "wasm32"))]
pub fn write(number: f64) -> String {
    format!("{number:?}")
}

/// The finite number that a text is, if it is one.
#[cfg(not(target_arch = "wasm32"))]
pub fn read(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}
