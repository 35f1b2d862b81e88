//! Tensors: what a shape, a layout and a batch must hold, and that nothing is lost between protobuf, JSON and back.

use tinkex_protocol::batch::Batch;
use tinkex_protocol::chunking::{ChunkLimits, chunks, datum_bytes, prompt_bytes};
use tinkex_protocol::{
    Chunk, DType, Datum, Error, ForwardBackwardOutput, LeVec, Map, ModelInput, Tensor, json, proto,
};

fn wire(dtype: i32, bytes: Vec<u8>, shape: &[i64]) -> proto::Tensor {
    let layout = Some(proto::tensor::Layout::Dense(bytes));
    proto::Tensor { layout, dtype, shape: shape.to_vec() }
}

fn floats(numbers: &[f32]) -> Vec<u8> {
    LeVec::from(numbers).into_bytes()
}

fn sparse(shape: [usize; 2], values: usize, crow: &[i64], col: &[i64]) -> Result<Tensor, Error> {
    Tensor::sparse(DType::Float32, shape, floats(&vec![0.5; values]), crow.into(), col.into())
}

#[test]
fn a_tensor_keeps_the_bytes_that_it_was_given() {
    let bytes = floats(&[1.0, f32::NAN, -0.0, 4.0]);
    let tensor = Tensor::try_from(wire(1, bytes.clone(), &[2, 2])).expect("a sound tensor");
    assert_eq!((tensor.dtype(), tensor.shape(), tensor.bytes()), (DType::Float32, &[2, 2][..], &bytes[..]));
    assert_eq!(tensor.iter_f32().expect("floats").nth(3), Some(4.0));
    assert!(tensor.iter_i64().is_none());
    assert_eq!(proto::Tensor::from(tensor), wire(1, bytes, &[2, 2]));
}

#[test]
fn a_tensor_without_a_shape_has_one_dimension() {
    let tensor =
        Tensor::try_from(wire(2, LeVec::from(vec![7i64, 8]).into_bytes(), &[])).expect("a sound tensor");
    assert_eq!(
        (tensor.shape(), tensor.iter_i64().map(|numbers| numbers.collect())),
        (&[2][..], Some(vec![7, 8]))
    );
    let tensor: Tensor = json::decode(br#"{"data":[7,8],"dtype":"int64"}"#).expect("a sound tensor");
    assert_eq!(tensor.shape(), [2]);
}

#[test]
fn int32_is_widened_and_bfloat16_refused_outside_a_batch() {
    let narrow = LeVec::from(vec![-1i32, 2]).into_bytes();
    assert_eq!(Tensor::try_from(wire(3, narrow, &[2])), Ok(Tensor::integers(&[-1, 2])));
    for (dtype, said) in [(0, "missing"), (4, "FLOAT32"), (9, "unknown"), (-1, "unknown")] {
        let error = Tensor::try_from(wire(dtype, vec![0; 8], &[])).expect_err("a dtype that isn't taken");
        assert!(error.path() == "dtype" && error.to_string().contains(said), "{error}");
    }
}

#[test]
fn a_shape_that_does_not_fit_the_data_is_refused() {
    for shape in [&[3][..], &[2, 2], &[0], &[i64::MAX, i64::MAX], &[1, 2, 2], &[-2, -1]] {
        let error = Tensor::try_from(wire(1, floats(&[1.0, 2.0]), shape)).expect_err("a wrong shape");
        assert_eq!(error.path(), "shape", "{error}");
    }
    assert_eq!(Tensor::try_from(wire(1, vec![0; 7], &[1])).expect_err("cut").path(), "data");
    let no_layout = proto::Tensor { layout: None, dtype: 1, shape: vec![0, 4] };
    assert_eq!(Tensor::try_from(no_layout).expect("nothing, in rows of four").shape(), [0, 4]);
}

#[test]
fn a_sparse_tensor_says_which_values_stand_where() {
    let tensor = sparse([3, 4], 3, &[0, 2, 2, 3], &[0, 3, 1]).expect("a sound tensor");
    let csr = tensor.csr().expect("sparse");
    assert_eq!((csr.row(0), csr.row(1), csr.row(2), csr.row(3)), (0..2, 2..2, 2..3, 0..0));
    assert_eq!(csr.row(usize::MAX), 0..0);
    assert_eq!((csr.column(1), csr.column(2), csr.column(3)), (Some(3), Some(1), None));
    assert_eq!(Tensor::try_from(proto::Tensor::from(tensor.clone())), Ok(tensor.clone()));
    assert_eq!(json::decode(&json::encode(&tensor)), Ok(tensor));
}

#[test]
fn a_sparse_tensor_that_contradicts_itself_is_refused() {
    for (why, shape, values, crow, col) in [
        ("too few rows", [3, 4], 1, &[0, 1][..], &[0][..]),
        ("too many rows", [0, 4], 1, &[0, 1], &[0]),
        ("rows that descend", [2, 4], 1, &[0, 2, 1], &[0]),
        ("rows that do not begin with 0", [1, 4], 1, &[1, 1], &[0]),
        ("rows that end before the values", [1, 4], 2, &[0, 1], &[0, 1]),
        ("fewer columns than values", [1, 4], 2, &[0, 2], &[0]),
        ("a column outside the shape", [1, 4], 1, &[0, 1], &[4]),
        ("a negative column", [1, 4], 1, &[0, 1], &[-1]),
    ] {
        assert!(sparse(shape, values, crow, col).is_err(), "{why}");
    }
    for body in [
        r#"{"data":[1],"dtype":"float32","sparse_crow_indices":[0,1],"sparse_col_indices":[0]}"#,
        r#"{"data":[1],"dtype":"float32","shape":[1,1],"sparse_crow_indices":[0,1]}"#,
        r#"{"data":[1],"dtype":"float32","shape":[1,1,1],"sparse_crow_indices":[0,1],"sparse_col_indices":[0]}"#,
    ] {
        assert!(json::decode::<Tensor>(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn json_numbers_must_be_of_the_type_that_is_said_before_or_after_them() {
    let tensor: Tensor = json::decode(br#"{"dtype":"float32","data":[1,-0.5,null]}"#).expect("floats");
    let numbers: Vec<f32> = tensor.iter_f32().expect("floats").collect();
    assert!(numbers[..2] == [1.0, -0.5] && numbers[2].is_nan());
    let large: Tensor =
        json::decode(br#"{"data":[9223372036854775807],"dtype":"int64"}"#).expect("an integer");
    assert_eq!(large, Tensor::integers(&[i64::MAX]));
    for data in ["[1.5]", "[null]", "[9223372036854775808]", "[\"1\"]", "1", "[[1]]"] {
        let body = format!(r#"{{"data":{data},"dtype":"int64"}}"#);
        assert!(json::decode::<Tensor>(body.as_bytes()).is_err(), "{data}");
    }
}

fn batched(dtype: proto::DType, data: &[u8], offsets: &[i64], trailing: &[i64]) -> proto::BatchedTensor {
    proto::BatchedTensor {
        data: data.to_vec(),
        offsets: LeVec::from(offsets).into_bytes(),
        dtype: dtype.into(),
        trailing_shape: trailing.to_vec(),
    }
}

fn split(wire: &proto::BatchedTensor) -> Result<Vec<Tensor>, Error> {
    let message = prost::Message::encode_to_vec(wire);
    let batch = Batch::read(&message)?;
    (0..batch.data()).map(|datum| batch.tensor(datum)).collect()
}

#[test]
fn a_batch_is_cut_where_its_offsets_say() {
    let data = floats(&[1.0, 2.0, 3.0, 4.0]);
    let cut = split(&batched(proto::DType::Float32, &data, &[0, 8, 8, 16], &[])).expect("three tensors");
    assert_eq!(cut, [Tensor::floats(&[1.0, 2.0]), Tensor::floats(&[]), Tensor::floats(&[3.0, 4.0])]);
    let rows = split(&batched(proto::DType::Float32, &data, &[0, 16], &[2])).expect("one tensor");
    assert_eq!(rows[0].shape(), [2, 2]);
    let none = split(&batched(proto::DType::Float32, &[], &[], &[])).expect("no tensors");
    assert_eq!(none, []);
}

#[test]
fn a_batch_widens_what_users_do_not_know() {
    // The bfloat16 values 1, −2 and NaN.
    let halves = [0x80, 0x3f, 0x00, 0xc0, 0xc1, 0x7f];
    let cut = split(&batched(proto::DType::Bfloat16, &halves, &[0, 4, 6], &[])).expect("two tensors");
    assert_eq!(cut[0], Tensor::floats(&[1.0, -2.0]));
    assert!(cut[1].iter_f32().expect("floats").all(f32::is_nan));
    let narrow = LeVec::from(vec![-5i32, 6]).into_bytes();
    let cut = split(&batched(proto::DType::Int32, &narrow, &[0, 8], &[])).expect("one tensor");
    assert_eq!(cut, [Tensor::integers(&[-5, 6])]);
}

#[test]
fn offsets_that_make_no_sense_are_refused() {
    for (why, offsets, trailing) in [
        ("descending", &[0, 8, 4][..], &[][..]),
        ("negative", &[-4, 4], &[]),
        ("beyond the data", &[0, 12], &[]),
        ("in the middle of a number", &[0, 6], &[]),
        ("not whole rows", &[0, 4], &[2]),
        ("rows of nothing", &[0, 4], &[0]),
        ("rows too large to be", &[0, 8], &[i64::MAX, i64::MAX]),
        ("rows of negative size", &[0, 8], &[-2]),
    ] {
        assert!(split(&batched(proto::DType::Float32, &[0; 8], offsets, trailing)).is_err(), "{why}");
    }
    let cut = proto::BatchedTensor { offsets: vec![0; 12], ..batched(proto::DType::Float32, &[], &[], &[]) };
    assert_eq!(split(&cut).expect_err("half an offset").path(), "offsets");
}

#[test]
fn outputs_of_different_kinds_travel_in_records_of_their_own() {
    let wide = |rows: usize| {
        Tensor::from_bytes(DType::Float32, vec![rows, 2], floats(&vec![0.5; 2 * rows]))
            .expect("a sound tensor")
    };
    let output = |name: &str, tensor| Map::from_iter([(name.to_owned(), tensor)]);
    let result = ForwardBackwardOutput {
        loss_fn_output_type: "ArrayRecord".into(),
        loss_fn_outputs: vec![
            output("logprobs", Tensor::floats(&[-1.0])),
            output("logprobs", Tensor::floats(&[])),
            output("logprobs", wide(2)),
            output("logprobs", Tensor::integers(&[1])),
            output("other", Tensor::integers(&[1])),
        ],
        metrics: Map::new(),
    };
    let bytes = result.encode().expect("encodes");
    let wire: proto::ForwardBackwardOutput = proto::decode("output", &bytes).expect("a message");
    let counts: Vec<i64> = wire.loss_fn_outputs.iter().map(|record| record.num_datums).collect();
    assert_eq!(counts, [2, 1, 1, 1]);
    assert_eq!(ForwardBackwardOutput::decode(&bytes, 5), Ok(result.clone()));
    assert!(ForwardBackwardOutput::decode(&bytes, 4).is_err(), "more outputs than data");

    let scalar = Tensor::from_bytes(DType::Float32, vec![], floats(&[1.0])).expect("a number");
    for odd in [scalar, sparse([1, 1], 1, &[0, 1], &[0]).expect("a sound tensor")] {
        let result = ForwardBackwardOutput { loss_fn_outputs: vec![output("a", odd)], ..result.clone() };
        assert!(result.encode().is_err());
    }
}

#[test]
fn fields_that_disagree_about_the_number_of_data_are_refused() {
    let one = batched(proto::DType::Float32, &floats(&[1.0]), &[0, 4], &[]);
    let two = batched(proto::DType::Float32, &floats(&[1.0, 2.0]), &[0, 4, 8], &[]);
    for num_datums in [0, 1, 2] {
        let fields = Map::from_iter([("a".to_owned(), one.clone()), ("b".to_owned(), two.clone())]);
        let record =
            proto::ArrayRecord { type_tag: String::new(), fields: proto::entries(fields), num_datums };
        let wire = proto::ForwardBackwardOutput { loss_fn_outputs: vec![record], ..Default::default() };
        let bytes = prost::Message::encode_to_vec(&wire);
        assert!(ForwardBackwardOutput::decode(&bytes, 10).is_err(), "{num_datums}");
    }
}

#[test]
fn a_call_is_cut_by_data_and_by_bytes_and_a_datum_never() {
    let limits = ChunkLimits { data: 3, bytes: 100 };
    let cut = |sizes: &[usize]| chunks(sizes.iter().copied(), limits);
    assert_eq!(cut(&[]), []);
    assert_eq!(cut(&[1, 1, 1, 1]), [0..3, 3..4]);
    assert_eq!(cut(&[50, 50, 1]), [0..2, 2..3]);
    assert_eq!(cut(&[1, 500, 1]), [0..1, 1..2, 2..3]);
    assert_eq!(cut(&[usize::MAX, usize::MAX]), [0..1, 1..2]);
}

#[test]
fn sizes_are_estimated_by_the_protocol_s_rule() {
    let image =
        Chunk::ImageAssetPointer { location: "12345".into(), format: "png".into(), expected_tokens: None };
    let prompt =
        ModelInput { chunks: vec![Chunk::EncodedText(vec![1, 2, 3].into()), image, Chunk::Dmel(vec![0; 7])] };
    assert_eq!(prompt_bytes(&prompt), 30 + 5 + 7);
    let datum = Datum {
        model_input: prompt,
        loss_fn_inputs: Map::from_iter([
            ("target_tokens".to_owned(), Tensor::integers(&[1, 2])),
            ("weights".to_owned(), sparse([2, 2], 1, &[0, 1, 1], &[0]).expect("a sound tensor")),
        ]),
        ..Datum::default()
    };
    assert_eq!(datum_bytes(&datum), (12 + 5 + 7) + 16 + (4 + 8 * 4));
}
