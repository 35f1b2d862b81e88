//! Tensors: raw little-endian bytes with a dtype and a shape that fit each other, dense or sparse (CSR).

use std::ops::Range;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::le::{LeVec, Number};
use crate::wire::Writer;
use crate::{Error, proto};

/// The two types that tensors have towards a user. Others are widened on the way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    Float32,
    Int64,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            DType::Float32 => f32::SIZE,
            DType::Int64 => i64::SIZE,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            DType::Float32 => "float32",
            DType::Int64 => "int64",
        }
    }
}

/// A tensor whose shape fits its data; one-dimensional where nothing else was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    /// Dense: every element, row by row. Sparse: the values that are there.
    values: Vec<u8>,
    sparse: Option<Csr>,
}

/// Which elements of a sparse `[rows, columns]` tensor are there: row *r* has the values `crow[r]..crow[r + 1]`, in the
/// columns that `col` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csr {
    crow: LeVec<i64>,
    col: LeVec<i64>,
}

impl Csr {
    /// The places in values and columns that belong to a row; empty beyond the last row.
    pub fn row(&self, row: usize) -> Range<usize> {
        match (self.crow.get(row), row.checked_add(1).and_then(|next| self.crow.get(next))) {
            (Some(start), Some(end)) => start as usize..end as usize,
            _ => 0..0,
        }
    }

    /// The column of a value.
    pub fn column(&self, place: usize) -> Option<usize> {
        self.col.get(place).map(|column| column as usize)
    }

    /// Row pointers, one more than rows.
    pub fn crow_indices(&self) -> &LeVec<i64> {
        &self.crow
    }

    /// Columns, one a value.
    pub fn col_indices(&self) -> &LeVec<i64> {
        &self.col
    }
}

impl Tensor {
    /// A dense tensor of raw little-endian bytes. Refuses a shape whose product isn't the number of elements.
    pub fn from_bytes(dtype: DType, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Tensor, Error> {
        let count = elements(dtype, &bytes)?;
        if product(&shape) != Some(count) {
            return Err(Error::field("shape", format!("{} does not fit {count} values", listed(&shape))));
        }
        Ok(Tensor { dtype, shape, values: bytes, sparse: None })
    }

    /// One-dimensional, float32.
    pub fn floats(numbers: &[f32]) -> Tensor {
        let values = LeVec::from(numbers).into_bytes();
        Tensor { dtype: DType::Float32, shape: vec![numbers.len()], values, sparse: None }
    }

    /// One-dimensional, int64.
    pub fn integers(numbers: &[i64]) -> Tensor {
        let values = LeVec::from(numbers).into_bytes();
        Tensor { dtype: DType::Int64, shape: vec![numbers.len()], values, sparse: None }
    }

    /// A sparse `[rows, columns]` tensor. Refuses pointers that don't ascend from 0 to the number of values, and columns
    /// outside the shape.
    pub fn sparse(
        dtype: DType,
        shape: [usize; 2],
        values: Vec<u8>,
        crow: LeVec<i64>,
        col: LeVec<i64>,
    ) -> Result<Tensor, Error> {
        let [rows, columns] = shape;
        let count = elements(dtype, &values)?;
        if rows.checked_add(1) != Some(crow.len()) {
            return Err(Error::field("sparse_crow_indices", "must be one more than the rows"));
        }
        let mut last = 0;
        for (row, start) in crow.iter().enumerate() {
            if start < last || (row == 0 && start != 0) {
                let problem = "must begin with 0 and never descend";
                return Err(Error::field("", problem).within_element("sparse_crow_indices", row));
            }
            last = start;
        }
        if usize::try_from(last) != Ok(count) || col.len() != count {
            let problem = "must end at the number of values, each of which has a column";
            return Err(Error::field("sparse_crow_indices", problem));
        }
        let outside = |column: i64| usize::try_from(column).map_or(true, |column| column >= columns);
        if let Some(place) = col.iter().position(outside) {
            let problem = "is outside the columns of the shape";
            return Err(Error::field("", problem).within_element("sparse_col_indices", place));
        }
        Ok(Tensor { dtype, shape: shape.to_vec(), values, sparse: Some(Csr { crow, col }) })
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The raw values: all of a dense tensor, row by row; those that are there of a sparse one.
    pub fn bytes(&self) -> &[u8] {
        &self.values
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.values
    }

    /// Which elements are there; none where all are.
    pub fn csr(&self) -> Option<&Csr> {
        self.sparse.as_ref()
    }

    /// How many values are stored.
    pub fn len(&self) -> usize {
        self.values.len() / self.dtype.size()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The stored values, if they are float32.
    pub fn iter_f32(&self) -> Option<impl ExactSizeIterator<Item = f32> + '_> {
        (self.dtype == DType::Float32).then(|| self.values.chunks_exact(f32::SIZE).map(f32::read))
    }

    /// The stored values, if they are int64.
    pub fn iter_i64(&self) -> Option<impl ExactSizeIterator<Item = i64> + '_> {
        (self.dtype == DType::Int64).then(|| self.values.chunks_exact(i64::SIZE).map(i64::read))
    }
}

fn elements(dtype: DType, bytes: &[u8]) -> Result<usize, Error> {
    if !bytes.len().is_multiple_of(dtype.size()) {
        let problem = format!("{} bytes are not a whole number of {} values", bytes.len(), dtype.as_str());
        return Err(Error::field("data", problem));
    }
    Ok(bytes.len() / dtype.size())
}

/// None when it overflows.
pub(crate) fn product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))
}

/// The sizes of a wire's shape, which come as signed integers.
pub(crate) fn sizes(field: &str, shape: &[i64]) -> Result<Vec<usize>, Error> {
    let mut sizes = Vec::with_capacity(shape.len());
    for &size in shape {
        let too_large = |_| Error::field(field, "has a size that is negative or too large");
        sizes.push(usize::try_from(size).map_err(too_large)?);
    }
    Ok(sizes)
}

/// A shape for an error's text.
pub(crate) fn listed(shape: &[usize]) -> String {
    let mut sizes = String::from("[");
    for (index, size) in shape.iter().enumerate() {
        if index > 0 {
            sizes.push_str(", ");
        }
        sizes.push_str(&size.to_string());
    }
    sizes + "]"
}

/// The type, and whether its values must be widened from int32.
fn wire_dtype(dtype: i32) -> Result<(DType, bool), Error> {
    match proto::DType::try_from(dtype) {
        Ok(proto::DType::Float32) => Ok((DType::Float32, false)),
        Ok(proto::DType::Int64) => Ok((DType::Int64, false)),
        Ok(proto::DType::Int32) => Ok((DType::Int64, true)),
        Ok(proto::DType::Bfloat16) => {
            Err(Error::field("dtype", "BFLOAT16 only travels in batched tensors: send FLOAT32"))
        }
        Ok(proto::DType::Unspecified) => Err(Error::field("dtype", "is missing: send FLOAT32 or INT64")),
        Err(_) => Err(Error::field("dtype", format!("{dtype} is unknown: send FLOAT32 or INT64"))),
    }
}

/// int64 of whole int32.
pub(crate) fn widen_i32(bytes: &[u8]) -> Vec<u8> {
    let mut wide = Vec::with_capacity(2 * bytes.len());
    for narrow in bytes.chunks_exact(4) {
        wide.extend_from_slice(&i64::from(i32::read(narrow)).to_le_bytes());
    }
    wide
}

impl TryFrom<proto::Tensor> for Tensor {
    type Error = Error;

    fn try_from(wire: proto::Tensor) -> Result<Tensor, Error> {
        let (dtype, narrow) = wire_dtype(wire.dtype)?;
        let shape = sizes("shape", &wire.shape)?;
        let widened = |bytes: Vec<u8>| match narrow {
            false => Ok(bytes),
            true if bytes.len().is_multiple_of(4) => Ok(widen_i32(&bytes)),
            true => Err(Error::field("data", "is not a whole number of int32")),
        };
        match wire.layout {
            Some(proto::tensor::Layout::SparseCsr(csr)) => {
                let crow =
                    LeVec::from_bytes(csr.crow_indices).map_err(|e| e.within("sparse_crow_indices"))?;
                let col = LeVec::from_bytes(csr.col_indices).map_err(|e| e.within("sparse_col_indices"))?;
                Tensor::sparse(dtype, two(&shape)?, widened(csr.values)?, crow, col)
            }
            dense => {
                let bytes = match dense {
                    Some(proto::tensor::Layout::Dense(bytes)) => widened(bytes)?,
                    _ => Vec::new(),
                };
                let shape = if wire.shape.is_empty() { vec![elements(dtype, &bytes)?] } else { shape };
                Tensor::from_bytes(dtype, shape, bytes)
            }
        }
    }
}

impl Tensor {
    /// The fields of a tensor's message.
    pub(crate) fn write(&self, out: &mut Writer) {
        match &self.sparse {
            None => out.bytes(1, &self.values),
            Some(csr) => {
                let start = out.open(2);
                out.some_bytes(1, &self.values);
                out.some_bytes(2, csr.crow.as_bytes());
                out.some_bytes(3, csr.col.as_bytes());
                out.close(start);
            }
        }
        let dtype = match self.dtype {
            DType::Float32 => proto::DType::Float32,
            DType::Int64 => proto::DType::Int64,
        };
        out.integer(3, dtype as u64);
        if !self.shape.is_empty() {
            let start = out.open(4);
            self.shape.iter().for_each(|&size| out.varint(size as u64));
            out.close(start);
        }
    }
}

fn two(shape: &[usize]) -> Result<[usize; 2], Error> {
    shape.try_into().map_err(|_| Error::field("shape", "of a sparse tensor must be [rows, columns]"))
}

impl From<Tensor> for proto::Tensor {
    fn from(tensor: Tensor) -> proto::Tensor {
        let dtype = match tensor.dtype {
            DType::Float32 => proto::DType::Float32,
            DType::Int64 => proto::DType::Int64,
        };
        let layout = match tensor.sparse {
            None => proto::tensor::Layout::Dense(tensor.values),
            Some(csr) => proto::tensor::Layout::SparseCsr(proto::SparseCsr {
                values: tensor.values,
                crow_indices: csr.crow.into_bytes(),
                col_indices: csr.col.into_bytes(),
            }),
        };
        proto::Tensor {
            layout: Some(layout),
            dtype: dtype.into(),
            shape: tensor.shape.into_iter().map(|size| size as i64).collect(),
        }
    }
}

/// The JSON form: `{data: flat numbers, dtype, shape?, sparse_crow_indices?, sparse_col_indices?}`.
impl Serialize for Tensor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Wire<'a, T: Number> {
            data: Borrowed<'a, T>,
            dtype: DType,
            shape: &'a [usize],
            #[serde(skip_serializing_if = "Option::is_none")]
            sparse_crow_indices: Option<&'a LeVec<i64>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            sparse_col_indices: Option<&'a LeVec<i64>>,
        }
        struct Borrowed<'a, T>(&'a [u8], std::marker::PhantomData<T>);
        impl<T: Number> Serialize for Borrowed<'_, T> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0.chunks_exact(T::SIZE).map(T::read))
            }
        }
        fn wire<T: Number>(tensor: &Tensor) -> Wire<'_, T> {
            Wire {
                data: Borrowed(&tensor.values, std::marker::PhantomData),
                dtype: tensor.dtype,
                shape: &tensor.shape,
                sparse_crow_indices: tensor.sparse.as_ref().map(|csr| &csr.crow),
                sparse_col_indices: tensor.sparse.as_ref().map(|csr| &csr.col),
            }
        }
        match self.dtype {
            DType::Float32 => wire::<f32>(self).serialize(serializer),
            DType::Int64 => wire::<i64>(self).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Tensor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tensor, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            data: Numbers,
            dtype: DType,
            shape: Option<Vec<usize>>,
            sparse_crow_indices: Option<LeVec<i64>>,
            sparse_col_indices: Option<LeVec<i64>>,
        }
        fn tensor(wire: Wire) -> Result<Tensor, Error> {
            let values = wire.data.into_bytes(wire.dtype)?;
            match (wire.sparse_crow_indices, wire.sparse_col_indices) {
                (None, None) => {
                    let shape = match wire.shape {
                        Some(shape) if !shape.is_empty() => shape,
                        _ => vec![values.len() / wire.dtype.size()],
                    };
                    Tensor::from_bytes(wire.dtype, shape, values)
                }
                (Some(crow), Some(col)) => {
                    let shape = two(wire.shape.as_deref().unwrap_or(&[]))?;
                    Tensor::sparse(wire.dtype, shape, values, crow, col)
                }
                _ => Err(Error::field(
                    "sparse_crow_indices",
                    "come together with sparse_col_indices, or not at all",
                )),
            }
        }
        tensor(Wire::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A JSON list of numbers whose type is said elsewhere, maybe after it. `null` is NaN.
#[derive(Deserialize)]
#[serde(transparent)]
struct Numbers(Vec<Option<serde_json::Number>>);

impl Numbers {
    fn into_bytes(self, dtype: DType) -> Result<Vec<u8>, Error> {
        let not_an_integer = |place| Error::field(format!("data[{place}]"), "is not a 64-bit integer");
        match dtype {
            DType::Float32 => {
                let float = |number: Option<serde_json::Number>| {
                    number.and_then(|number| number.as_f64()).map_or(f32::NAN, |number| number as f32)
                };
                Ok(self.0.into_iter().map(float).collect::<LeVec<f32>>().into_bytes())
            }
            DType::Int64 => {
                let mut integers = LeVec::<i64>::default();
                for (place, number) in self.0.into_iter().enumerate() {
                    let number =
                        number.and_then(|number| number.as_i64()).ok_or_else(|| not_an_integer(place))?;
                    integers.push(number);
                }
                Ok(integers.into_bytes())
            }
        }
    }
}
