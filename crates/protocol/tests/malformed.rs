//! Decoders take any bytes: what is malformed is an error, what is not is written back as it was read.

mod corpus;

use corpus::{Mutator, kinds};

const CASES_PER_KIND: usize = 20_000;

#[test]
fn sound_messages_are_taken() {
    for kind in kinds() {
        for bytes in &kind.sound {
            assert!((kind.read)(bytes), "{}: {}", kind.name, String::from_utf8_lossy(bytes));
        }
    }
}

#[test]
fn no_bytes_make_a_decoder_panic() {
    for (seed, kind) in kinds().iter().enumerate() {
        let mut mutator = Mutator::new(seed as u64 + 1);
        let (mut taken, mut refused) = (0, 0);
        for case in 0..CASES_PER_KIND {
            let bytes = if case % 10 == 0 {
                (0..mutator.below(60)).map(|_| mutator.below(256) as u8).collect()
            } else {
                let sound = &kind.sound[mutator.below(kind.sound.len())];
                mutator.mutate(sound)
            };
            match (kind.read)(&bytes) {
                true => taken += 1,
                false => refused += 1,
            }
        }
        assert!(taken > 0 && refused > 0, "{}: {taken} taken, {refused} refused", kind.name);
    }
}

#[test]
fn json_nested_without_end_is_refused() {
    for kind in kinds() {
        for opening in ["[", "{\"a\":", "{\"event_data\":", "{\"prompt\":{\"chunks\":["] {
            assert!(!(kind.read)(opening.repeat(100_000).as_bytes()), "{}", kind.name);
        }
    }
}
