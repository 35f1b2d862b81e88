//! A size that a message claims is never allocated before the bytes for it are seen.

mod corpus;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use corpus::{DATA, Mutator, kinds};
use prost::Message;
use tinkex_protocol::{ForwardBackward, ForwardBackwardOutput, LeVec, SampleResponse, json, proto};

/// Counts what its thread holds, and the most that it ever held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    HELD.set(HELD.get() + bytes);
    MOST.set(MOST.get().max(HELD.get()));
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes held at once beyond what was held before.
fn most_held(read: impl FnOnce()) -> isize {
    let before = HELD.get();
    MOST.set(before);
    read();
    MOST.get() - before
}

/// Wide enough for a message of many small parts and for an error's text, far below any claim.
fn allowed(message: &[u8]) -> isize {
    8_192 + 256 * message.len() as isize
}

#[test]
fn claimed_sizes_are_not_allocated() {
    let huge = i64::MAX / 2;
    let record = |fields: &[(&str, proto::BatchedTensor)], num_datums| {
        let fields = fields.iter().map(|(name, wire)| ((*name).to_owned(), wire.clone()).into()).collect();
        let record = proto::ArrayRecord { type_tag: String::new(), fields, num_datums };
        proto::ForwardBackwardOutput { loss_fn_outputs: vec![record], ..Default::default() }.encode_to_vec()
    };
    let batched = |offsets: Vec<i64>, trailing_shape: Vec<i64>| proto::BatchedTensor {
        data: vec![0; 8],
        offsets: LeVec::from(offsets).into_bytes(),
        dtype: proto::DType::Float32.into(),
        trailing_shape,
    };
    let topk =
        proto::TopkLogprobs { token_ids: vec![0; 4], logprobs: vec![0; 4], k: u32::MAX, length: u32::MAX };
    let sample = proto::SampleResponse { topk_prompt_logprobs: Some(topk), ..Default::default() };
    let tensor = |layout, shape: Vec<i64>| {
        let tensor = proto::Tensor { layout: Some(layout), dtype: proto::DType::Int64.into(), shape };
        let datum = proto::Datum {
            loss_fn_inputs: vec![("weights".to_owned(), tensor).into()],
            ..Default::default()
        };
        proto::ForwardBackwardRequest { seq_id: 1, data: vec![datum], ..Default::default() }.encode_to_vec()
    };
    let sparse = |rows: Vec<i64>| {
        proto::tensor::Layout::SparseCsr(proto::SparseCsr {
            values: vec![0; 8],
            crow_indices: LeVec::from(rows).into_bytes(),
            col_indices: vec![0; 8],
        })
    };
    let dense = || proto::tensor::Layout::Dense(vec![0; 8]);
    // A field of bytes, a message and a packed list, each said to be nearly 4 GB long.
    let long = |tag: u8| vec![tag, 0xff, 0xff, 0xff, 0xff, 0x0e, 1, 2, 3];

    type Case = (&'static str, Vec<u8>, fn(&[u8]) -> bool);
    let request: fn(&[u8]) -> bool = |bytes| ForwardBackward::decode(bytes).is_ok();
    let output: fn(&[u8]) -> bool = |bytes| ForwardBackwardOutput::decode(bytes, DATA).is_ok();
    let response: fn(&[u8]) -> bool = |bytes| SampleResponse::decode(bytes).is_ok();
    let cases: Vec<Case> = vec![
        ("outputs without fields", record(&[], huge), output),
        ("a negative number of outputs", record(&[], -1), output),
        ("more outputs than data", record(&[("a", batched(vec![0; DATA + 2], vec![]))], 0), output),
        ("offsets beyond the data", record(&[("a", batched(vec![0, huge], vec![]))], 1), output),
        ("a vast trailing shape", record(&[("a", batched(vec![0, 8], vec![huge, 4]))], 1), output),
        ("a vast matrix", sample.encode_to_vec(), response),
        ("a vast dense shape", tensor(dense(), vec![huge, 8]), request),
        ("a vast sparse shape", tensor(sparse(vec![0, 1]), vec![huge, huge]), request),
        ("row pointers that end far away", tensor(sparse(vec![0, huge]), vec![1, 1]), request),
        ("a negative size", tensor(dense(), vec![-1]), request),
        ("a long text", long(0x0a), request),
        ("a long datum", long(0x1a), request),
        ("a long sequence", long(0x0a), response),
        ("long logprobs", long(0x12), response),
    ];
    for (name, bytes, read) in cases {
        let held = most_held(|| assert!(!read(&bytes), "{name} was taken"));
        assert!(held <= allowed(&bytes), "{name}: {held} bytes held for {} bytes", bytes.len());
    }
}

#[test]
fn a_list_of_rows_of_very_different_lengths_is_not_padded_to_a_vast_matrix() {
    let rows = ["null"; 5_000].join(",");
    let row = ["[1,-0.5]"; 5_000].join(",");
    let body = format!(r#"{{"sequences":[],"topk_prompt_logprobs":[[{row}],{rows}]}}"#);
    let held = most_held(|| assert!(json::decode::<SampleResponse>(body.as_bytes()).is_err()));
    assert!(held < 4_000_000, "{held} bytes held for {} bytes", body.len());
}

#[test]
fn no_malformed_message_makes_a_decoder_hold_much_more_than_its_bytes() {
    for (seed, kind) in kinds().iter().enumerate() {
        let mut mutator = Mutator::new(seed as u64 + 1_000);
        for _ in 0..2_000 {
            let sound = mutator.below(kind.sound.len());
            let bytes = mutator.mutate(&kind.sound[sound]);
            let held = most_held(|| {
                (kind.read)(&bytes);
            });
            assert!(held <= allowed(&bytes), "{}: {held} bytes held for {bytes:?}", kind.name);
        }
    }
}
