//! Base64 in the golden files, through the JSON form of a chunk of audio: the only bytes that JSON carries.

use tinkex_protocol::{Chunk, json};

pub fn decode(text: &str) -> Vec<u8> {
    let chunk = serde_json::json!({ "type": "dmel", "dmel": text }).to_string();
    match json::decode(chunk.as_bytes()) {
        Ok(Chunk::Dmel(bytes)) => bytes,
        other => panic!("not base64: {other:?}"),
    }
}

pub fn encode(bytes: &[u8]) -> String {
    let chunk: serde_json::Value =
        serde_json::from_slice(&json::encode(&Chunk::Dmel(bytes.to_vec()))).expect("JSON");
    chunk["dmel"].as_str().expect("text").to_owned()
}
