//! Tensors that know how they came about, so that gradients can be asked for ([`mod@super::grad`]).
//!
//! A [`Traced`] is a value (a candle tensor, always a constant there) and its origin: a variable,
//! or an op with what its backward rule has kept. Rules are written in traced ops themselves, so a
//! gradient is as differentiable as what it came from. What makes this worth having beside
//! candle's own graph: only the path to the variables asked for is walked, no gradient starts as
//! zeros to be added to, an op keeps what its rule needs and nothing else, and a pass that is the
//! last one frees every value as soon as it has been used.
//!
//! The graph is made of what it describes: it is gone when nobody holds its end.
//!
//! Reference: Griewank and Walther 2008, Evaluating Derivatives, chapter 3 (reverse mode).

mod arithmetic;
mod shape;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor, TensorId, Var, bail};

/// A tensor and its origin; cheap to clone.
#[derive(Clone)]
pub struct Traced {
    value: Tensor,
    origin: Option<Origin>,
}

/// Where a value comes from, if a gradient can reach it.
#[derive(Clone)]
pub(super) enum Origin {
    /// A variable.
    Leaf(TensorId),
    /// An op.
    Op(Arc<Node>),
}

/// An op that was done.
pub(super) struct Node {
    /// Grows with time: what an op was made of is older than the op.
    pub(super) order: u64,
    /// Absent once a pass has used it up.
    rule: Mutex<Option<Arc<Rule>>>,
}

/// How a gradient goes on from an op's result to its arguments.
pub(super) struct Rule {
    /// Origins of the arguments; `None`: a constant.
    pub(super) inputs: Vec<Option<Origin>>,
    pub(super) backward: Box<Backward>,
}

/// From the gradient of the result to those of the arguments that are wanted.
type Backward = dyn Fn(&Traced, Wanted) -> Result<Vec<Option<Traced>>> + Send + Sync;

/// Which arguments' gradients somebody needs.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a>(pub(super) &'a [bool]);

impl Wanted<'_> {
    /// Whether that of argument `idx` is needed.
    pub(super) fn is(self, idx: usize) -> bool {
        self.0[idx]
    }

    /// `gradient` of argument `idx`, if it is needed.
    pub(super) fn of(
        self,
        idx: usize,
        gradient: impl FnOnce() -> Result<Traced>,
    ) -> Result<Option<Traced>> {
        self.0[idx].then(gradient).transpose()
    }
}

thread_local! {
    static IS_ON: Cell<bool> = const { Cell::new(true) };
}

static ORDER: AtomicU64 = AtomicU64::new(0);

/// Runs `work`, whose results are constants.
pub(super) fn untraced<T>(work: impl FnOnce() -> T) -> T {
    let outer = IS_ON.replace(false);
    let result = work();
    IS_ON.set(outer);
    result
}

impl Traced {
    /// A value that no gradient reaches.
    pub fn constant(value: &Tensor) -> Self {
        Self { value: value.detach(), origin: None }
    }

    /// The variable itself: gradients end here.
    pub fn variable(var: &Var) -> Self {
        Self { value: var.as_detached_tensor(), origin: Some(Origin::Leaf(var.id())) }
    }

    /// The result of an op on `inputs`, whose gradients `backward` makes of the result's, one for
    /// each input that is [`Wanted`].
    pub(super) fn derived<const N: usize>(
        value: Tensor,
        inputs: [&Self; N],
        backward: impl Fn(&Self, Wanted) -> Result<[Option<Self>; N]> + Send + Sync + 'static,
    ) -> Self {
        Self::derived_of_many(value, &inputs, move |dy, wanted| Ok(backward(dy, wanted)?.into()))
    }

    fn derived_of_many(
        value: Tensor,
        inputs: &[&Self],
        backward: impl Fn(&Self, Wanted) -> Result<Vec<Option<Self>>> + Send + Sync + 'static,
    ) -> Self {
        if !IS_ON.get() || inputs.iter().all(|input| input.origin.is_none()) {
            return Self { value, origin: None };
        }
        let inputs = inputs.iter().map(|input| input.origin.clone()).collect();
        let rule = Rule { inputs, backward: Box::new(backward) };
        let order = ORDER.fetch_add(1, Ordering::Relaxed);
        let node = Node { order, rule: Mutex::new(Some(Arc::new(rule))) };
        Self { value, origin: Some(Origin::Op(Arc::new(node))) }
    }

    /// The value alone.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// The same value as a constant.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self { value: self.value.clone(), origin: None }
    }

    /// Whether a gradient can reach it, and where.
    pub(super) fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Whether a gradient can reach it.
    pub fn is_traced(&self) -> bool {
        self.origin.is_some()
    }

    /// For an op's rule, which needs this argument to differentiate with respect to `other` only:
    /// it is not kept for nothing.
    pub(super) fn kept_for(&self, other: &Self) -> Kept {
        Kept(other.is_traced().then(|| self.clone()))
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.value.dtype()
    }

    /// Where the value is.
    pub fn device(&self) -> &Device {
        self.value.device()
    }

    /// Shape of the value.
    pub fn shape(&self) -> &Shape {
        self.value.shape()
    }

    /// Sizes of the dimensions.
    pub fn dims(&self) -> &[usize] {
        self.value.dims()
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.value.rank()
    }

    /// Number of elements.
    pub fn elem_count(&self) -> usize {
        self.value.elem_count()
    }

    /// Size of dimension `idx`.
    ///
    /// # Errors
    /// Fails if there is none.
    pub fn dim(&self, idx: usize) -> Result<usize> {
        self.value.dim(idx)
    }

    /// The sizes of two dimensions.
    ///
    /// # Errors
    /// Fails if there are more or fewer; so do `dims3` and `dims4`.
    pub fn dims2(&self) -> Result<(usize, usize)> {
        self.value.dims2()
    }

    /// As [`Traced::dims2`], for three.
    ///
    /// # Errors
    /// As there.
    pub fn dims3(&self) -> Result<(usize, usize, usize)> {
        self.value.dims3()
    }

    /// As [`Traced::dims2`], for four.
    ///
    /// # Errors
    /// As there.
    pub fn dims4(&self) -> Result<(usize, usize, usize, usize)> {
        self.value.dims4()
    }
}

impl From<Tensor> for Traced {
    /// A variable's own tensor is the variable; anything else is a constant.
    fn from(tensor: Tensor) -> Self {
        if tensor.is_variable() {
            Self { origin: Some(Origin::Leaf(tensor.id())), value: tensor.detach() }
        } else {
            Self::constant(&tensor)
        }
    }
}

impl From<&Tensor> for Traced {
    fn from(tensor: &Tensor) -> Self {
        Self::from(tensor.clone())
    }
}

impl fmt::Debug for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, .. } = self;
        write!(f, "Traced[{:?}, {:?}]", value.shape(), value.dtype())
    }
}

/// An argument that a rule has kept, if it had a reason.
pub(super) struct Kept(Option<Traced>);

impl Kept {
    /// The argument.
    ///
    /// # Errors
    /// Fails if the rule asks for what it had no reason to keep.
    pub(super) fn get(&self) -> Result<&Traced> {
        match &self.0 {
            Some(traced) => Ok(traced),
            None => bail!("gradient: expected an argument that was kept for it"),
        }
    }
}

impl Node {
    /// The rule, for this pass and later ones.
    ///
    /// # Errors
    /// Fails if a pass has used it up.
    pub(super) fn rule(&self) -> Result<Arc<Rule>> {
        match self.rule.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(rule) => Ok(rule.clone()),
            None => bail!(
                "gradient: expected a graph that no pass has used up; ask for this gradient with \
                 the graph kept first"
            ),
        }
    }

    /// Forgets the rule and with it what it has kept.
    pub(super) fn use_up(&self) {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
