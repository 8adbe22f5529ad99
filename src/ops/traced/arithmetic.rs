//! Arithmetic on traced tensors, done by candle: what the networks need besides their own ops.

use std::ops::{Add, Div, Mul, Sub};

use candle_core::shape::Dims;
use candle_core::{Result, Tensor};

use super::Traced;
use crate::ops::cost::{self, by_candle};

/// A matrix that is repeated over a batch, written out: candle 0.11 multiplies a transposed one by
/// such a view wrongly.
fn in_memory(x: &Tensor) -> Result<Tensor> {
    let is_repeated = x.rank() > 2 && x.stride()[..x.rank() - 2].contains(&0);
    if is_repeated { x.contiguous() } else { Ok(x.clone()) }
}

impl Traced {
    /// `mul * self + add`.
    ///
    /// # Errors
    /// Fails if candle does, as all ops here.
    pub fn affine(&self, mul: f64, add: f64) -> Result<Self> {
        let y = by_candle("candle: affine", || self.value.affine(mul, add))?;
        Ok(Self::derived(y, [self], move |dy, _| Ok([Some(dy.affine(mul, 0.0)?)])))
    }

    /// `-self`
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn neg(&self) -> Result<Self> {
        self.affine(-1.0, 0.0)
    }

    /// `self + other`, of one shape.
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn plus(&self, other: &Self) -> Result<Self> {
        let y = by_candle("candle: add", || &self.value + &other.value)?;
        Ok(Self::derived(y, [self, other], |dy, wanted| {
            Ok([wanted.of(0, || Ok(dy.clone()))?, wanted.of(1, || Ok(dy.clone()))?])
        }))
    }

    /// `self - other`, of one shape.
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn minus(&self, other: &Self) -> Result<Self> {
        let y = by_candle("candle: sub", || &self.value - &other.value)?;
        Ok(Self::derived(y, [self, other], |dy, wanted| {
            Ok([wanted.of(0, || Ok(dy.clone()))?, wanted.of(1, || dy.neg())?])
        }))
    }

    /// `self * other`, element by element, of one shape.
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn times(&self, other: &Self) -> Result<Self> {
        let y = by_candle("candle: mul", || &self.value * &other.value)?;
        let (a, b) = (self.kept_for(other), other.kept_for(self));
        Ok(Self::derived(y, [self, other], move |dy, wanted| {
            Ok([wanted.of(0, || dy.times(b.get()?))?, wanted.of(1, || dy.times(a.get()?))?])
        }))
    }

    /// `1 / self`
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn recip(&self) -> Result<Self> {
        let x = self.clone();
        Ok(Self::derived(
            by_candle("candle: recip", || self.value.recip())?,
            [self],
            move |dy, _| Ok([Some((dy * x.recip()?.sqr()?)?.neg()?)]),
        ))
    }

    /// `self^2`
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn sqr(&self) -> Result<Self> {
        let x = self.clone();
        Ok(Self::derived(by_candle("candle: sqr", || self.value.sqr())?, [self], move |dy, _| {
            Ok([Some((dy * &x)?.affine(2.0, 0.0)?)])
        }))
    }

    /// Square root.
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn sqrt(&self) -> Result<Self> {
        let x = self.clone();
        Ok(Self::derived(by_candle("candle: sqrt", || self.value.sqrt())?, [self], move |dy, _| {
            Ok([Some((dy * x.sqrt()?.recip()?)?.affine(0.5, 0.0)?)])
        }))
    }

    /// `e^self`
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn exp(&self) -> Result<Self> {
        let x = self.clone();
        Ok(Self::derived(by_candle("candle: exp", || self.value.exp())?, [self], move |dy, _| {
            Ok([Some((dy * x.exp()?)?)])
        }))
    }

    /// Natural logarithm.
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn log(&self) -> Result<Self> {
        let x = self.clone();
        Ok(Self::derived(by_candle("candle: log", || self.value.log())?, [self], move |dy, _| {
            Ok([Some((dy * x.recip()?)?)])
        }))
    }

    /// Hyperbolic tangent.
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn tanh(&self) -> Result<Self> {
        let x = self.clone();
        Ok(Self::derived(by_candle("candle: tanh", || self.value.tanh())?, [self], move |dy, _| {
            let slope = x.tanh()?.sqr()?.affine(-1.0, 1.0)?;
            Ok([Some((dy * slope)?)])
        }))
    }

    /// `above` where `self` is positive, else `below`; NaN counts as not positive.
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn if_positive(&self, above: &Self, below: &Self) -> Result<Self> {
        above.select(&self.value.gt(0.0)?, below)
    }

    /// `self` within `-limit..=limit`, else the limit; no gradient passes there.
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn clamp(&self, limit: f64) -> Result<Self> {
        let bound = Self::constant(&self.value.clamp(-limit, limit)?);
        self.select(&self.value.abs()?.lt(limit)?, &bound)
    }

    /// `self` where `mask`, else `other`.
    fn select(&self, mask: &Tensor, other: &Self) -> Result<Self> {
        let y = by_candle("candle: where", || mask.where_cond(&self.value, &other.value))?;
        let mask = mask.clone();
        Ok(Self::derived(y, [self, other], move |dy, wanted| {
            let zeros = Self::constant(&dy.value.zeros_like()?);
            let of_self = || dy.select(&mask, &zeros);
            Ok([wanted.of(0, of_self)?, wanted.of(1, || zeros.select(&mask, dy))?])
        }))
    }

    /// Sum over `dims`, which stay with size 1.
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn sum_keepdim(&self, dims: impl Dims) -> Result<Self> {
        let shape = self.shape().clone();
        Ok(Self::derived(
            by_candle("candle: sum", || self.value.sum_keepdim(dims))?,
            [self],
            move |dy, _| Ok([Some(dy.broadcast_as(&shape)?)]),
        ))
    }

    /// Sum over `dims`, which go.
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn sum(&self, dims: impl Dims) -> Result<Self> {
        let dims = dims.to_indexes(self.shape(), "sum")?;
        let rest = (0..self.rank()).filter(|dim| !dims.contains(dim));
        let shape: Vec<usize> = rest.map(|dim| self.dims()[dim]).collect();
        self.sum_keepdim(dims)?.reshape(shape)
    }

    /// Sum of all elements, a scalar.
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn sum_all(&self) -> Result<Self> {
        let shape = self.shape().clone();
        Ok(Self::derived(
            by_candle("candle: sum", || self.value.sum_all())?,
            [self],
            move |dy, _| Ok([Some(dy.broadcast_as(&shape)?)]),
        ))
    }

    /// Mean over `dims`, which stay with size 1.
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn mean_keepdim(&self, dims: impl Dims) -> Result<Self> {
        let sum = self.sum_keepdim(dims)?;
        let count = self.elem_count() / sum.elem_count().max(1);
        sum.affine(1.0 / count as f64, 0.0)
    }

    /// Mean over `dims`, which go.
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn mean(&self, dims: impl Dims) -> Result<Self> {
        let sum = self.sum(dims)?;
        let count = self.elem_count() / sum.elem_count().max(1);
        sum.affine(1.0 / count as f64, 0.0)
    }

    /// Mean of all elements, a scalar.
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn mean_all(&self) -> Result<Self> {
        self.sum_all()?.affine(1.0 / self.elem_count() as f64, 0.0)
    }

    /// Matrix product of the last two dimensions.
    ///
    /// # Errors
    /// As [`Traced::affine`].
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        let y = cost::matmul(&in_memory(&self.value)?, &in_memory(&other.value)?)?;
        let (a, b) = (self.kept_for(other), other.kept_for(self));
        Ok(Self::derived(y, [self, other], move |dy, wanted| {
            let of_self = || dy.matmul(&b.get()?.t()?);
            Ok([wanted.of(0, of_self)?, wanted.of(1, || a.get()?.t()?.matmul(dy))?])
        }))
    }
}

/// The operator on traced tensors of one shape, owned or not.
macro_rules! operator {
    ($trait:ident, $method:ident, $op:ident) => {
        operator!($trait, $method, $op, Traced, Traced);
        operator!($trait, $method, $op, Traced, &Traced);
        operator!($trait, $method, $op, &Traced, Traced);
        operator!($trait, $method, $op, &Traced, &Traced);
    };
    ($trait:ident, $method:ident, $op:ident, $lhs:ty, $rhs:ty) => {
        impl $trait<$rhs> for $lhs {
            type Output = Result<Traced>;

            fn $method(self, rhs: $rhs) -> Result<Traced> {
                Traced::$op(&self, &rhs)
            }
        }
    };
}

operator!(Add, add, plus);
operator!(Sub, sub, minus);
operator!(Mul, mul, times);

/// The operator between a traced tensor and a number.
macro_rules! operator_with_number {
    ($trait:ident, $method:ident, $number:ident => ($mul:expr, $add:expr)) => {
        impl $trait<f64> for Traced {
            type Output = Result<Traced>;

            fn $method(self, $number: f64) -> Result<Traced> {
                self.affine($mul, $add)
            }
        }

        impl $trait<f64> for &Traced {
            type Output = Result<Traced>;

            fn $method(self, $number: f64) -> Result<Traced> {
                self.affine($mul, $add)
            }
        }
    };
}

operator_with_number!(Add, add, number => (1.0, number));
operator_with_number!(Sub, sub, number => (1.0, -number));
operator_with_number!(Mul, mul, number => (number, 0.0));
operator_with_number!(Div, div, number => (1.0 / number, 0.0));
