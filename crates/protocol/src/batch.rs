//! Batched tensors: one field of many data in one array, cut apart and put together.

use crate::le::{LeVec, Number};
use crate::tensor::{product, sizes, widen_i32};
use crate::wire::Fields;
use crate::{DType, Error, Tensor, proto};

/// One field of many data, cut into theirs.
pub struct Batch<'a> {
    data: &'a [u8],
    /// Where each datum begins in `data`, and the last one ends: ascending, and inside.
    offsets: Vec<usize>,
    element: Element,
    trailing_shape: Vec<usize>,
    /// Elements of a row.
    width: usize,
}

/// What the data are made of.
#[derive(Clone, Copy)]
enum Element {
    Float32,
    Int64,
    Int32,
    Bfloat16,
}

impl Element {
    fn of(dtype: i32) -> Result<Element, Error> {
        Ok(match dtype {
            1 => Element::Float32,
            2 => Element::Int64,
            3 => Element::Int32,
            4 => Element::Bfloat16,
            0 => return Err(Error::field("dtype", "is missing")),
            other => return Err(Error::field("dtype", format!("{other} is unknown"))),
        })
    }

    /// In bytes.
    fn size(self) -> usize {
        match self {
            Element::Float32 | Element::Int32 => 4,
            Element::Int64 => 8,
            Element::Bfloat16 => 2,
        }
    }
}

impl<'a> Batch<'a> {
    /// Reads a [`proto::BatchedTensor`]. Refuses offsets that descend or leave the data.
    pub fn read(message: &'a [u8]) -> Result<Batch<'a>, Error> {
        let (mut data, mut offsets) = (&[][..], &[][..]);
        let (mut dtype, mut trailing) = (0, Vec::new());
        let mut fields = Fields(message);
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => data = value.bytes()?,
                2 => offsets = value.bytes()?,
                3 => dtype = value.integer()? as i32,
                4 => value.integers(&mut trailing)?,
                _ => {}
            }
        }
        let element = Element::of(dtype)?;
        let trailing_shape = sizes("trailing_shape", &trailing)?;
        let width = product(&trailing_shape).ok_or_else(|| Error::field("trailing_shape", "is too large"))?;
        Ok(Batch { data, offsets: ascending(offsets, data.len())?, element, trailing_shape, width })
    }

    /// How many data.
    pub fn data(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// The tensor of a datum, of shape `[n, ...trailing_shape]`; of one that isn't there an empty one. bfloat16 is widened
    /// to float32, int32 to int64. Refuses bytes that cut a row.
    pub fn tensor(&self, datum: usize) -> Result<Tensor, Error> {
        let place = |index| self.offsets.get(index).copied().unwrap_or_default();
        let bytes = self.data.get(place(datum)..place(datum + 1)).unwrap_or_default();
        let size = self.element.size();
        let rows = (bytes.len() / size).checked_div(self.width).unwrap_or(0);
        // Whole rows of whole elements: the product can't overflow, since both factors are of bytes that are here.
        if rows * self.width * size != bytes.len() {
            return Err(Error::field("", "does not end a whole row").within_element("offsets", datum + 1));
        }
        let mut shape = Vec::with_capacity(1 + self.trailing_shape.len());
        shape.push(rows);
        shape.extend_from_slice(&self.trailing_shape);
        let (dtype, values) = match self.element {
            Element::Float32 => (DType::Float32, bytes.to_vec()),
            Element::Bfloat16 => (DType::Float32, widen_bfloat16(bytes)),
            Element::Int64 => (DType::Int64, bytes.to_vec()),
            Element::Int32 => (DType::Int64, widen_i32(bytes)),
        };
        Tensor::from_bytes(dtype, shape, values)
    }
}

/// Offsets in the bytes of int64.
fn ascending(bytes: &[u8], end: usize) -> Result<Vec<usize>, Error> {
    if !bytes.len().is_multiple_of(8) {
        return Err(Error::field("offsets", "are not a whole number of int64"));
    }
    let mut offsets: Vec<usize> = Vec::with_capacity(bytes.len() / 8);
    let mut first = 0;
    for offset in bytes.chunks_exact(8).map(i64::read) {
        match usize::try_from(offset) {
            Ok(offset) if (first..=end).contains(&offset) => first = offset,
            _ => {
                let problem = "descends, or is outside the data";
                return Err(Error::field("", problem).within_element("offsets", offsets.len()));
            }
        }
        offsets.push(first);
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
