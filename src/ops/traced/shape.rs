//! Views and rearrangements of traced tensors.

use candle_core::{DType, Result, Shape, Tensor, bail};

use super::Traced;
use crate::ops::cost::by_candle;

impl Traced {
    /// The same elements, row by row, in another shape.
    ///
    /// # Errors
    /// Fails if candle does, as all ops here.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let before = self.shape().clone();
        Ok(Self::derived(self.value.reshape(shape.into())?, [self], move |dy, _| {
            Ok([Some(dy.reshape(&before)?)])
        }))
    }

    /// All dimensions from `dim` on as one.
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn flatten_from(&self, dim: usize) -> Result<Self> {
        let mut shape = self.dims()[..dim].to_vec();
        shape.push(self.dims()[dim..].iter().product());
        self.reshape(shape)
    }

    /// A dimension of size 1 before `dim`.
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn unsqueeze(&self, dim: usize) -> Result<Self> {
        let mut shape = self.dims().to_vec();
        shape.insert(dim, 1);
        self.reshape(shape)
    }

    /// Without dimension `dim`, of size 1.
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn squeeze(&self, dim: usize) -> Result<Self> {
        let mut shape = self.dims().to_vec();
        if shape.remove(dim) != 1 {
            bail!("squeeze: expected a dimension of size 1, got {:?}", self.shape());
        }
        self.reshape(shape)
    }

    /// Dimensions `a` and `b` change places.
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn transpose(&self, a: usize, b: usize) -> Result<Self> {
        Ok(Self::derived(self.value.transpose(a, b)?, [self], move |dy, _| {
            Ok([Some(dy.transpose(a, b)?)])
        }))
    }

    /// The last two dimensions change places.
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn t(&self) -> Result<Self> {
        let rank = self.rank();
        if rank < 2 {
            bail!("t: expected a matrix, got {:?}", self.shape());
        }
        self.transpose(rank - 2, rank - 1)
    }

    /// Repeated along dimensions of size 1 and new ones in front, until it has `shape`.
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn broadcast_as(&self, shape: impl Into<Shape>) -> Result<Self> {
        let (before, shape) = (self.shape().clone(), shape.into());
        let num_new = shape.rank().saturating_sub(before.rank());
        let mut dims: Vec<usize> = (0..num_new).collect();
        dims.extend(
            (num_new..shape.rank())
                .filter(|&dim| before.dims()[dim - num_new] == 1 && shape.dims()[dim] != 1),
        );
        Ok(Self::derived(self.value.broadcast_as(shape)?, [self], move |dy, _| {
            Ok([Some(dy.sum_keepdim(dims.as_slice())?.reshape(&before)?)])
        }))
    }

    /// Repeated `n` times along a new first dimension.
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn broadcast_left(&self, n: usize) -> Result<Self> {
        let mut shape = vec![n];
        shape.extend(self.dims());
        self.broadcast_as(shape)
    }

    /// Both tensors, repeated until they have one shape.
    fn broadcast(&self, other: &Self) -> Result<(Self, Self)> {
        let shape = self.shape().broadcast_shape_binary_op(other.shape(), "broadcast")?;
        let fit =
            |x: &Self| if x.shape() == &shape { Ok(x.clone()) } else { x.broadcast_as(&shape) };
        Ok((fit(self)?, fit(other)?))
    }

    /// Sum of tensors that are repeated to one shape.
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn broadcast_add(&self, other: &Self) -> Result<Self> {
        let (a, b) = self.broadcast(other)?;
        a.plus(&b)
    }

    /// As [`Traced::broadcast_add`], the difference.
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn broadcast_sub(&self, other: &Self) -> Result<Self> {
        let (a, b) = self.broadcast(other)?;
        a.minus(&b)
    }

    /// As [`Traced::broadcast_add`], the product.
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn broadcast_mul(&self, other: &Self) -> Result<Self> {
        let (a, b) = self.broadcast(other)?;
        a.times(&b)
    }

    /// As [`Traced::broadcast_add`], the quotient.
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn broadcast_div(&self, other: &Self) -> Result<Self> {
        self.broadcast_mul(&other.recip()?)
    }

    /// `len` entries along `dim` from `start` on.
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Self> {
        let rest = self.dim(dim)?.saturating_sub(start + len);
        Ok(Self::derived(self.value.narrow(dim, start, len)?, [self], move |dy, _| {
            Ok([Some(dy.pad_with_zeros(dim, start, rest)?)])
        }))
    }

    /// Zeros before and after along `dim`.
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn pad_with_zeros(&self, dim: usize, before: usize, after: usize) -> Result<Self> {
        let len = self.dim(dim)?;
        let y = by_candle("candle: pad", || self.value.pad_with_zeros(dim, before, after))?;
        Ok(Self::derived(y, [self], move |dy, _| Ok([Some(dy.narrow(dim, before, len)?)])))
    }

    /// Tensors after each other along `dim`.
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn cat(parts: &[Self], dim: usize) -> Result<Self> {
        let values: Vec<&Tensor> = parts.iter().map(|part| &part.value).collect();
        let y = by_candle("candle: cat", || Tensor::cat(&values, dim))?;
        let lens = parts.iter().map(|part| part.dim(dim)).collect::<Result<Vec<_>>>()?;
        let inputs: Vec<&Self> = parts.iter().collect();
        Ok(Self::derived_of_many(y, &inputs, move |dy, wanted| {
            let mut start = 0;
            let gradient = |(idx, len): (usize, &usize)| {
                start += len;
                wanted.of(idx, || dy.narrow(dim, start - len, *len))
            };
            lens.iter().enumerate().map(gradient).collect()
        }))
    }

    /// Tensors of one shape along a new dimension `dim`.
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn stack(parts: &[Self], dim: usize) -> Result<Self> {
        let parts = parts.iter().map(|part| part.unsqueeze(dim)).collect::<Result<Vec<_>>>()?;
        Self::cat(&parts, dim)
    }

    /// Entries along `dim` by their indices `idx` (u32).
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn index_select(&self, idx: &Tensor, dim: usize) -> Result<Self> {
        let (len, entries) = (self.dim(dim)?, idx.clone());
        let y =
            by_candle("candle: index_select", || self.value.contiguous()?.index_select(idx, dim))?;
        Ok(Self::derived(y, [self], move |dy, _| Ok([Some(dy.index_add(&entries, dim, len)?)])))
    }

    /// The adjoint of [`Traced::index_select`]: `len` entries along `dim`, sums of those whose
    /// index they have.
    fn index_add(&self, idx: &Tensor, dim: usize, len: usize) -> Result<Self> {
        let mut shape = self.dims().to_vec();
        shape[dim] = len;
        let zeros = Tensor::zeros(shape, self.dtype(), self.device())?;
        let y = by_candle("candle: index_add", || {
            zeros.index_add(idx, &self.value.contiguous()?, dim)
        })?;
        let idx = idx.clone();
        Ok(Self::derived(y, [self], move |dy, _| Ok([Some(dy.index_select(&idx, dim)?)])))
    }

    /// The elements of another type.
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        let before = self.dtype();
        if dtype == before {
            return Ok(self.clone());
        }
        let y = by_candle("candle: to_dtype", || self.value.to_dtype(dtype))?;
        Ok(Self::derived(y, [self], move |dy, _| Ok([Some(dy.to_dtype(before)?)])))
    }

    /// The elements row by row in memory.
    ///
    /// # Errors
    /// As [`Traced::reshape`].
    pub fn contiguous(&self) -> Result<Self> {
        if self.value.is_contiguous() {
            return Ok(self.clone());
        }
        let value = by_candle("candle: contiguous", || self.value.contiguous())?;
        Ok(Self { value, origin: self.origin.clone() })
    }
}
