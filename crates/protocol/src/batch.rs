//! Batched tensors: one field of many data in one array, cut apart and put together.

use crate::le::{LeVec, Number};
use crate::tensor::{product, sizes, widen_i32};
use crate::wire::Fields;
use crate::{DType, Error, Tensor, proto};

/// A batched tensor as it came, unchecked.
#[derive(Default)]
struct Batched<'a> {
    data: &'a [u8],
    /// int64, in bytes of `data`; one more than data.
    offsets: &'a [u8],
    /// A [`proto::DType`].
    dtype: i32,
    trailing_shape: Vec<i64>,
}

impl<'a> Batched<'a> {
    fn read(message: &'a [u8]) -> Result<Batched<'a>, Error> {
        let mut batched = Batched::default();
        let mut fields = Fields(message);
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => batched.data = value.bytes()?,
                2 => batched.offsets = value.bytes()?,
                3 => batched.dtype = value.integer()? as i32,
                4 => value.integers(&mut batched.trailing_shape)?,
                _ => {}
            }
        }
        Ok(batched)
    }
}

/// The tensors of the data of a [`proto::BatchedTensor`], in order, each of shape `[n, ...trailing_shape]`.
///
/// Refuses offsets that descend, leave the data or cut an element. bfloat16 is widened to float32, int32 to int64.
pub fn split(message: &[u8]) -> Result<Vec<Tensor>, Error> {
    let batched = Batched::read(message)?;
    let (dtype, size) = match batched.dtype {
        1 => (DType::Float32, 4),
        2 => (DType::Int64, 8),
        3 => (DType::Int64, 4),
        4 => (DType::Float32, 2),
        0 => return Err(Error::field("dtype", "is missing")),
        other => return Err(Error::field("dtype", format!("{other} is unknown"))),
    };
    let trailing = sizes("trailing_shape", &batched.trailing_shape)?;
    let width = product(&trailing).ok_or_else(|| Error::field("trailing_shape", "is too large"))?;
    let offsets = offsets(&batched)?;
    let mut tensors = Vec::with_capacity(offsets.len().saturating_sub(1));
    for (index, pair) in offsets.windows(2).enumerate() {
        let bytes = batched.data.get(pair[0]..pair[1]).unwrap_or_default();
        let rows = (bytes.len() / size).checked_div(width).unwrap_or(0);
        // Whole rows of whole elements: the product can't overflow, since both factors are of bytes that are here.
        if rows * width * size != bytes.len() {
            return Err(Error::field("", "does not end a whole row").within_element("offsets", index + 1));
        }
        let mut shape = Vec::with_capacity(1 + trailing.len());
        shape.push(rows);
        shape.extend_from_slice(&trailing);
        let values = match batched.dtype {
            3 => widen_i32(bytes),
            4 => widen_bfloat16(bytes),
            _ => bytes.to_vec(),
        };
        tensors.push(Tensor::from_bytes(dtype, shape, values)?);
    }
    Ok(tensors)
}

fn offsets(batched: &Batched) -> Result<Vec<usize>, Error> {
    let bytes = batched.offsets;
    if !bytes.len().is_multiple_of(8) {
        return Err(Error::field("offsets", "are not a whole number of int64"));
    }
    let mut offsets: Vec<usize> = Vec::with_capacity(bytes.len() / 8);
    for (index, offset) in bytes.chunks_exact(8).enumerate() {
        let offset = i64::read(offset);
        let first = offsets.last().copied().unwrap_or(0);
        let fits = |offset: &usize| (first..=batched.data.len()).contains(offset);
        offsets.push(usize::try_from(offset).ok().filter(fits).ok_or_else(|| {
            Error::field("", "descends, or is outside the data").within_element("offsets", index)
        })?);
    }
    Ok(offsets)
}

/// bfloat16 is the upper half of a float32: exact for every value, NaN payloads included.
fn widen_bfloat16(bytes: &[u8]) -> Vec<u8> {
    let mut wide = Vec::with_capacity(2 * bytes.len());
    for half in bytes.chunks_exact(2) {
        wide.extend_from_slice(&[0, 0, half[0], half[1]]);
    }
    wide
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
