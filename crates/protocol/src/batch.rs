//! Batched tensors: one field of many data in one array, cut apart and put together.

use crate::le::LeVec;
use crate::tensor::{product, sizes, widen_i32};
use crate::{DType, Error, Tensor, proto};

/// The tensors of the data, in order, each of shape `[n, ...trailing_shape]`.
///
/// Refuses offsets that descend, leave the data or cut an element. bfloat16 is widened to float32, int32 to int64.
pub fn split(batched: &proto::BatchedTensor) -> Result<Vec<Tensor>, Error> {
    let dtype = proto::DType::try_from(batched.dtype)
        .map_err(|_| Error::field("dtype", format!("{} is unknown", batched.dtype)))?;
    let size = match dtype {
        proto::DType::Float32 | proto::DType::Int32 => 4,
        proto::DType::Int64 => 8,
        proto::DType::Bfloat16 => 2,
        proto::DType::Unspecified => return Err(Error::field("dtype", "is missing")),
    };
    let trailing = sizes("trailing_shape", &batched.trailing_shape)?;
    let width = product(&trailing)
        .ok_or_else(|| Error::field("trailing_shape", format!("{trailing:?} is too large")))?;
    let offsets = offsets(batched)?;
    let mut tensors = Vec::with_capacity(offsets.len().saturating_sub(1));
    for (index, pair) in offsets.windows(2).enumerate() {
        let place = || format!("offsets[{}]", index + 1);
        let bytes =
            batched.data.get(pair[0]..pair[1]).filter(|bytes| bytes.len().is_multiple_of(size)).ok_or_else(
                || {
                    let problem = format!("{}..{} cuts no whole elements out of the data", pair[0], pair[1]);
                    Error::field(place(), problem)
                },
            )?;
        let count = bytes.len() / size;
        let rows = count.checked_div(width).unwrap_or(0);
        if rows * width != count {
            let problem = format!("{count} values are not whole rows of {trailing:?}");
            return Err(Error::field(place(), problem));
        }
        let mut shape = Vec::with_capacity(1 + trailing.len());
        shape.push(rows);
        shape.extend_from_slice(&trailing);
        tensors.push(match dtype {
            proto::DType::Int64 => Tensor::from_bytes(DType::Int64, shape, bytes.to_vec())?,
            proto::DType::Int32 => Tensor::from_bytes(DType::Int64, shape, widen_i32(bytes.to_vec())?)?,
            proto::DType::Bfloat16 => Tensor::from_bytes(DType::Float32, shape, widen_bfloat16(bytes))?,
            _ => Tensor::from_bytes(DType::Float32, shape, bytes.to_vec())?,
        });
    }
    Ok(tensors)
}

fn offsets(batched: &proto::BatchedTensor) -> Result<Vec<usize>, Error> {
    let bytes = &batched.offsets;
    if !bytes.len().is_multiple_of(8) {
        return Err(Error::field(
            "offsets",
            format!("{} bytes are not a whole number of int64", bytes.len()),
        ));
    }
    let mut offsets = Vec::with_capacity(bytes.len() / 8);
    for (index, offset) in bytes.chunks_exact(8).enumerate() {
        let offset = i64::from_le_bytes(offset.try_into().expect("8 bytes"));
        let fits = usize::try_from(offset).ok().filter(|&offset| {
            offset <= batched.data.len() && offsets.last().is_none_or(|&last| last <= offset)
        });
        offsets.push(fits.ok_or_else(|| {
            let problem =
                format!("{offset} descends, or is outside the {} bytes of data", batched.data.len());
            Error::field(format!("offsets[{index}]"), problem)
        })?);
    }
    Ok(offsets)
}

/// bfloat16 is the upper half of a float32: exact for every value, NaN payloads included.
fn widen_bfloat16(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks_exact(2).flat_map(|half| [0, 0, half[0], half[1]]).collect()
}

/// What the tensors of one field must share to travel together: type and trailing shape. None for a sparse or a
/// zero-dimensional tensor, which no batch can hold.
pub fn kind(tensor: &Tensor) -> Option<(DType, &[usize])> {
    let (_, trailing) = tensor.shape().split_first()?;
    tensor.csr().is_none().then_some((tensor.dtype(), trailing))
}

/// Puts one field of consecutive data together. They must be of one [`kind`].
pub fn join<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Result<proto::BatchedTensor, Error> {
    let mut data = Vec::new();
    let mut offsets = LeVec::<i64>::from(vec![0]);
    let mut first: Option<(DType, &[usize])> = None;
    for (index, tensor) in tensors.enumerate() {
        let kind = kind(tensor).ok_or_else(|| Error::field(format!("[{index}]"), "is sparse or a scalar"))?;
        if *first.get_or_insert(kind) != kind {
            return Err(Error::field(
                format!("[{index}]"),
                "differs in type or trailing shape from the first",
            ));
        }
        data.extend_from_slice(tensor.bytes());
        offsets.push(data.len() as i64);
    }
    let (dtype, trailing) = first.unwrap_or((DType::Float32, &[]));
    let dtype = match dtype {
        DType::Float32 => proto::DType::Float32,
        DType::Int64 => proto::DType::Int64,
    };
    Ok(proto::BatchedTensor {
        data,
        offsets: offsets.into_bytes(),
        dtype: dtype.into(),
        trailing_shape: trailing.iter().map(|&size| size as i64).collect(),
    })
}
