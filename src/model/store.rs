//! Where a network's parameters live: variables by name, and views of them.
//!
//! A network is built three times over the same memory. The first build draws initial values; one
//! view is tracked, so that gradients reach the parameters; a frozen one is constants, so that
//! passing through the network costs no graph and no weight gradients. Names are those of the
//! public PyTorch checkpoints, e.g. `synthesis.b8.conv0.affine.bias`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder, VarMap};

use crate::ops::rng::{Rng, Stream};

/// Tensors that a network keeps but does not train.
const BUFFERS: [&str; 2] = ["w_avg", "noise_const"];

/// Parameters and buffers of one network.
#[derive(Clone)]
pub struct Store {
    variables: VarMap,
    dtype: DType,
    device: Device,
}

/// What a build does with a name.
#[derive(Clone, Copy)]
enum View {
    /// Creates it with initial values drawn from a seed.
    Init(u64),
    /// Hands out the variable.
    Tracked,
    /// Hands out a constant with the variable's memory.
    Frozen,
}

struct Backend {
    store: Store,
    view: View,
    used: Option<Used>,
}

/// Names that a network has asked for while it was built.
#[derive(Clone, Default)]
pub(crate) struct Used(Arc<Mutex<HashSet<String>>>);

impl Used {
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    fn add(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }
}

impl Store {
    /// An empty store for parameters of `dtype` on `device`.
    pub fn new(dtype: DType, device: &Device) -> Self {
        Self { variables: VarMap::new(), dtype, device: device.clone() }
    }

    /// Type of the parameters.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where the parameters are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Creates what is asked for, drawn from `seed`; each tensor's draws depend on its name only.
    pub fn init(&self, seed: u64) -> VarBuilder<'static> {
        self.builder(View::Init(seed))
    }

    /// The existing variables; gradients reach them.
    pub fn tracked(&self) -> VarBuilder<'static> {
        self.builder(View::Tracked)
    }

    /// The existing values as constants that follow the variables.
    pub fn frozen(&self) -> VarBuilder<'static> {
        self.builder(View::Frozen)
    }

    /// As [`Store::frozen`], and the names that have been asked for.
    pub(crate) fn frozen_and_counted(&self) -> (VarBuilder<'static>, Used) {
        let used = Used::default();
        let backend = Backend { store: self.clone(), view: View::Frozen, used: Some(used.clone()) };
        let builder = VarBuilder::from_backend(Box::new(backend), self.dtype, self.device.clone());
        (builder, used)
    }

    /// All trainable parameters, sorted by name.
    pub fn params(&self) -> Vec<(String, Var)> {
        self.sorted(false)
    }

    /// All tensors that are kept but not trained, sorted by name.
    pub fn buffers(&self) -> Vec<(String, Var)> {
        self.sorted(true)
    }

    /// Parameters and buffers, sorted by name.
    pub fn tensors(&self) -> Vec<(String, Var)> {
        let mut all = self.params();
        all.extend(self.buffers());
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// A store with its own copy of every value.
    ///
    /// # Errors
    /// Fails if memory cannot be copied.
    pub fn deep_copy(&self) -> Result<Self> {
        let copy = Self::new(self.dtype, &self.device);
        for (name, var) in self.tensors() {
            copy.insert(&name, Var::from_tensor(&var.copy()?)?)?;
        }
        Ok(copy)
    }

    /// Replaces the value of `name`.
    ///
    /// # Errors
    /// Fails if there is no such tensor or its shape differs.
    pub fn set(&self, name: &str, value: &Tensor) -> Result<()> {
        let var = self.find(name)?;
        if var.shape() != value.shape() {
            bail!("{name}: expected shape {:?}, got {:?}", var.shape(), value.shape());
        }
        var.set(&value.to_dtype(self.dtype)?.to_device(&self.device)?)
    }

    fn builder(&self, view: View) -> VarBuilder<'static> {
        let backend = Backend { store: self.clone(), view, used: None };
        VarBuilder::from_backend(Box::new(backend), self.dtype, self.device.clone())
    }

    /// The variables; a panic elsewhere leaves the map whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Var>> {
        self.variables.data().lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sorted(&self, buffers: bool) -> Vec<(String, Var)> {
        let variables = self.lock();
        let mut list: Vec<_> = variables
            .iter()
            .filter(|(name, _)| is_buffer(name) == buffers)
            .map(|(name, var)| (name.clone(), var.clone()))
            .collect();
        list.sort_by(|(a, _), (b, _)| a.cmp(b));
        list
    }

    /// The tensor `name`.
    ///
    /// # Errors
    /// Fails if there is none.
    pub(crate) fn find(&self, name: &str) -> Result<Var> {
        let variables = self.lock();
        match variables.get(name) {
            Some(var) => Ok(var.clone()),
            None => bail!("{name}: missing tensor"),
        }
    }

    /// Adds a tensor.
    ///
    /// # Errors
    /// Fails if there is one of this name.
    pub(crate) fn insert(&self, name: &str, var: Var) -> Result<()> {
        let mut variables = self.lock();
        match variables.insert(name.to_owned(), var) {
            None => Ok(()),
            Some(_) => bail!("{name}: expected each name once"),
        }
    }
}

fn is_buffer(name: &str) -> bool {
    BUFFERS.contains(&name.rsplit('.').next().unwrap_or(name))
}

impl SimpleBackend for Backend {
    fn get(&self, shape: Shape, name: &str, init: Init, _: DType, _: &Device) -> Result<Tensor> {
        if let View::Init(seed) = self.view {
            let store = &self.store;
            let value = draw(&shape, name, init, seed)?;
            let value = value.to_dtype(store.dtype)?.to_device(&store.device)?;
            store.insert(name, Var::from_tensor(&value)?)?;
        }
        let tensor = self.get_unchecked(name, self.store.dtype, &self.store.device)?;
        if tensor.shape() != &shape {
            bail!("{name}: expected shape {shape:?}, got {:?}", tensor.shape());
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        let var = self.store.find(name)?;
        if let Some(used) = &self.used {
            used.add(name);
        }
        match self.view {
            View::Tracked if !is_buffer(name) => Ok(var.as_tensor().clone()),
            View::Init(_) | View::Tracked | View::Frozen => Ok(var.as_detached_tensor()),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.store.find(name).is_ok()
    }
}

fn draw(shape: &Shape, name: &str, init: Init, seed: u64) -> Result<Tensor> {
    match init {
        Init::Const(value) => Tensor::full(value, shape, &Device::Cpu),
        Init::Randn { mean, stdev } => {
            let rng = Rng::new(seed, Stream::Weights, fnv1a(name));
            let values = rng.normals(shape.elem_count());
            Tensor::from_vec(values, shape, &Device::Cpu)?.affine(stdev, mean)
        }
        Init::Uniform { .. } | Init::Kaiming { .. } => {
            bail!("{name}: expected a constant or a normal initialisation")
        }
    }
}

/// Fowler, Noll and Vo's hash, 64 bit, variant 1a.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
