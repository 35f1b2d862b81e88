//! What each token says, for stop strings and for the end of a text: the vocabulary of the shipped tokenizer.
//! Texts are cut into tokens by clients; `sandbox/tokenizer.json` gives them the file.

use serde::Deserialize;
use std::collections::BTreeMap;

/// The file, in the form of Hugging Face's tokenizers, which also clients read.
pub(crate) const FILE: &str = include_str!("../../../data/tokenizer.json");

pub(crate) struct Tokenizer {
    bytes: Vec<Vec<u8>>,
    end: Option<u32>,
}

#[derive(Deserialize)]
struct File {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<Added>,
}

#[derive(Deserialize)]
struct Model {
    vocab: BTreeMap<String, u32>,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
}

/// The special token at which a text or a turn is over.
const END: &str = "<|end|>";

impl Tokenizer {
    pub fn shipped() -> Result<Self, String> {
        Self::parse(FILE)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_json::from_str(text).map_err(|error| format!("tokenizer.json: {error}"))?;
        let letters = byte_letters();
        let mut tokens = BTreeMap::new();
        for (spelling, id) in file.model.vocab {
            let bytes =
                spelling.chars().map(|letter| letters.get(&letter).copied()).collect::<Option<Vec<u8>>>();
            tokens.insert(id, bytes.unwrap_or_else(|| spelling.into_bytes()));
        }
        let mut end = None;
        for Added { id, content } in file.added_tokens {
            if content == END {
                end = Some(id);
            }
            tokens.insert(id, content.into_bytes());
        }
        let last = tokens.last_key_value().map_or(0, |(id, _)| *id as usize);
        if last > tokens.len() * 4 {
            return Err(format!("tokenizer.json: id {last} is far beyond its {} tokens", tokens.len()));
        }
        let mut bytes = vec![Vec::new(); last + 1];
        tokens.into_iter().for_each(|(id, said)| bytes[id as usize] = said);
        Ok(Self { bytes, end })
    }

    /// What a token says; nothing if it is none.
    pub fn bytes(&self, token: u32) -> &[u8] {
        self.bytes.get(token as usize).map_or(&[], Vec::as_slice)
    }

    /// The token after which nothing follows.
    pub fn end(&self) -> Option<u32> {
        self.end
    }
}

/// Byte-level BPE writes each byte as one printable letter: printable ones of Latin-1 as themselves, the others as
/// letters from U+0100 on, in order.
fn byte_letters() -> BTreeMap<char, u8> {
    let mut others = 0x100_u32..;
    let letter = |byte: u8| {
        let itself = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let code = if itself { Some(u32::from(byte)) } else { others.next() };
        (code.and_then(char::from_u32).expect("a letter below U+0200"), byte)
    };
    (0..=255).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_tokens_say_every_byte_and_have_an_end() {
        let tokenizer = Tokenizer::shipped().unwrap();
        let said = |bytes: &[u8]| tokenizer.bytes.iter().any(|token| token == bytes);
        let letters = byte_letters();
        assert_eq!(letters.len(), 256);
        assert!(said(b" ") && said(b"\n") && said(b"e"));
        assert_eq!(tokenizer.bytes(tokenizer.end().unwrap()), END.as_bytes());
        assert_eq!(tokenizer.bytes(u32::MAX), b"");
    }
}
