//! Reads `data/tokenizer.json`, as far as the examples need it: byte-level BPE with special tokens.

use serde_json::Value;
use std::collections::HashMap;

pub struct Tokenizer {
    ids: HashMap<String, u32>,
    tokens: Vec<String>,
    /// The lower the rank, the sooner the two are merged.
    ranks: HashMap<(String, String), usize>,
    special: Vec<String>,
}

impl Tokenizer {
    pub fn from_file(path: &str) -> Result<Tokenizer, Box<dyn std::error::Error>> {
        let file: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        let vocabulary = file["model"]["vocab"].as_object().ok_or("the tokenizer has no vocabulary")?;
        let mut tokens = vec![String::new(); vocabulary.len()];
        let mut ids = HashMap::new();
        for (token, id) in vocabulary {
            let id = id.as_u64().ok_or("an id is not a number")? as usize;
            *tokens.get_mut(id).ok_or("an id is too large")? = token.clone();
            ids.insert(token.clone(), id as u32);
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let ranks = list(&file["model"]["merges"])
            .iter()
            .enumerate()
            .map(|(rank, pair)| ((text(&pair[0]), text(&pair[1])), rank))
            .collect();
        let special = list(&file["added_tokens"]).iter().map(|token| text(&token["content"])).collect();
        Ok(Tokenizer { ids, tokens, ranks, special })
    }

    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let next =
                self.special.iter().filter_map(|special| Some((rest.find(special.as_str())?, special)));
            let (plain, special) = match next.min() {
                Some((at, special)) => (&rest[..at], Some(special)),
                None => (rest, None),
            };
            for word in words(plain) {
                self.encode_word(word, &mut ids);
            }
            ids.extend(special.map(|special| self.ids[special]));
            rest = &rest[plain.len() + special.map_or(0, String::len)..];
        }
        ids
    }

    pub fn decode(&self, ids: &[u32]) -> String {
        let byte_of: HashMap<char, u8> = (0..=255).map(|byte| (letter(byte), byte)).collect();
        let mut bytes = Vec::new();
        for &id in ids {
            let token = &self.tokens[id as usize];
            if self.special.contains(token) {
                bytes.extend(token.bytes());
            } else {
                bytes.extend(token.chars().filter_map(|letter| byte_of.get(&letter)));
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) {
        let mut parts: Vec<String> = word.bytes().map(|byte| letter(byte).to_string()).collect();
        let rank = |pair: &[String]| self.ranks.get(&(pair[0].clone(), pair[1].clone()));
        while let Some((_, at)) =
            parts.windows(2).enumerate().filter_map(|(at, pair)| Some((*rank(pair)?, at))).min()
        {
            let right = parts.remove(at + 1);
            parts[at].push_str(&right);
        }
        ids.extend(parts.iter().map(|part| self.ids[part]));
    }
}

/// The printable character that stands for a byte, as GPT-2 chose them.
fn letter(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let unprintable_before = (0..byte).filter(|&other| !printable(other)).count() as u32;
    char::from_u32(256 + unprintable_before).expect("256 to 323 are characters")
}

/// GPT-2's words: letters, digits or signs, each with the space before it; runs of white space; English contractions.
fn words(text: &str) -> Vec<&str> {
    let class = |c: char| match c {
        c if c.is_whitespace() => 0,
        c if c.is_alphabetic() => 1,
        c if c.is_numeric() => 2,
        _ => 3,
    };
    let run = |text: &str, of: u8| text.find(|c| class(c) != of).unwrap_or(text.len());
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let contraction =
            ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].into_iter().find(|c| rest.starts_with(c));
        let after_space = rest.strip_prefix(' ').and_then(|after| after.chars().next()).map(class);
        let length = if let Some(contraction) = contraction {
            contraction.len()
        } else if let Some(of @ 1..) = after_space {
            1 + run(&rest[1..], of)
        } else if class(first) > 0 {
            run(rest, class(first))
        } else {
            // White space before a word leaves its last character to the word.
            let length = run(rest, 0);
            let last = rest[..length].chars().next_back().map_or(0, char::len_utf8);
            if length < rest.len() && length > last { length - last } else { length }
        };
        words.push(&rest[..length]);
        rest = &rest[length..];
    }
    words
}
