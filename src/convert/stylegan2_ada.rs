//! Snapshots of the StyleGAN2-ADA PyTorch tools, and of the StyleGAN3 ones with config stylegan2.
//!
//! A snapshot is a dictionary with `G`, `D`, `G_ema` and more. A network is a tree of modules, each
//! an object that carries its own source code (which is not looked at), its parameters, buffers and
//! attributes. The attributes say what a module computes, so those that tensors do not show are
//! compared with what is computed here: a network that differs is refused, not drawn wrongly.

use std::collections::BTreeMap;

use candle_core::{Result, bail};

use super::network::{Config, Named, Network, check_filter, store_of};
use super::shapes::{Shapes, Unshaped};
use super::tensor::{Lazy, Weights};
use super::torch::Storages;
use super::value::{Global, Id, Table, Value};
use super::{Which, printable};
use crate::model::config::Architecture;

/// Most modules, parameters and buffers of a network: a generator at 1024 pixels has some 300.
const MAX_PARTS: usize = 4096;
/// Deepest nesting of modules: `synthesis.b4.conv1.affine`.
const MAX_DEPTH: usize = 8;
/// Learning rate multiplier of the mapping networks.
const MAPPING_LR: f64 = 0.01;

/// A network as it lies in the file.
struct Tree<'t, 'a> {
    table: &'t Table<'a>,
    class: &'a str,
    tensors: BTreeMap<String, Lazy<'a>>,
    /// Name and attributes of each module.
    modules: Vec<(String, Id)>,
    /// Modules, parameters and buffers so far.
    num_parts: usize,
}

/// The network `which` of a snapshot.
///
/// # Errors
/// Fails, naming it, at whatever is not as in a StyleGAN2.
pub(super) fn read(
    (table, storages): (&Table, &Storages),
    which: Which,
    weights: &mut Weights,
) -> Result<Network> {
    let key = which.of(["G_ema", "G", "D"]);
    let named = |error| candle_core::Error::msg(format!("{key}: {error}"));
    let root = table.expect(table.root, key, "the snapshot")?;
    let tree = Tree::collect(table, storages, root).map_err(named)?;
    let config = tree.config(which).map_err(named)?;
    let tensors = tree.take(weights).map_err(named)?;
    let store = store_of(&config, tensors).map_err(named)?;
    let source = "a snapshot of the StyleGAN2-ADA tools";
    Ok(Network { config, store, source, header: None, has_own_mean: true })
}

impl<'t, 'a> Tree<'t, 'a> {
    fn collect(table: &'t Table<'a>, storages: &Storages<'a>, root: Id) -> Result<Self> {
        let (class, _) = module(table, root)?;
        let mut tree =
            Self { table, class, tensors: BTreeMap::new(), modules: Vec::new(), num_parts: 0 };
        let mut open = vec![(String::new(), root, 0)];
        while let Some((prefix, id, depth)) = open.pop() {
            if depth > MAX_DEPTH {
                bail!("expected modules at most {MAX_DEPTH} within each other");
            }
            let (_, state) = module(table, id).map_err(|error| {
                candle_core::Error::msg(format!("{}: {error}", printable(&prefix)))
            })?;
            for group in ["_parameters", "_buffers"] {
                for (name, id) in tree.named_members(state, group, &prefix)? {
                    let tensor = Lazy::find(table, storages, id);
                    let tensor = tensor.map_err(|error| {
                        candle_core::Error::msg(format!("{}: {error}", printable(&name)))
                    })?;
                    tree.tensors.insert(name, tensor);
                }
            }
            for (name, id) in tree.named_members(state, "_modules", &prefix)? {
                open.push((name, id, depth + 1));
            }
            tree.modules.push((prefix, state));
        }
        Ok(tree)
    }

    /// What a group of a module's state holds, except for those that are none.
    fn named_members(&mut self, state: Id, group: &str, prefix: &str) -> Result<Vec<(String, Id)>> {
        let table = self.table;
        let what = if prefix.is_empty() { "the network" } else { prefix };
        let group = table.expect(state, group, what)?;
        let members = table.members(group)?.unwrap_or_default();
        self.num_parts += members.len();
        if self.num_parts > MAX_PARTS {
            bail!("expected at most {MAX_PARTS} modules, parameters and buffers");
        }
        let mut named = Vec::new();
        for (name, id) in members {
            let Some(name) = table.name(*name) else {
                bail!("{}: expected short names as text", printable(what));
            };
            let dot = if prefix.is_empty() { "" } else { "." };
            if !matches!(table.get(*id), Value::None) {
                named.push((format!("{prefix}{dot}{name}"), *id));
            }
        }
        Ok(named)
    }

    fn config(&self, which: Which) -> Result<Config> {
        let expected = if which == Which::D { "Discriminator" } else { "Generator" };
        if self.class != expected {
            bail!("expected a {expected}, got a {}", printable(self.class));
        }
        let shapes = self.tensors.iter().map(|(name, lazy)| (name.clone(), lazy.dims.clone()));
        let shapes = Shapes(shapes.collect());
        let unshaped =
            Unshaped { conv_clamp: self.conv_clamp()?, mbstd_group_size: self.mbstd_group_size()? };
        let config = if which == Which::D {
            Config::Discriminator(shapes.discriminator(unshaped)?)
        } else {
            Config::Generator(shapes.generator(unshaped)?)
        };
        for (name, state) in &self.modules {
            self.check_module(name, *state, config.architecture())?;
        }
        Ok(config)
    }

    /// The bound on activations: one for all layers.
    fn conv_clamp(&self) -> Result<Option<f64>> {
        let mut found = None;
        for (name, state) in &self.modules {
            let Some(id) = self.table.member(*state, "conv_clamp")? else { continue };
            let clamp = match (self.table.get(id), self.table.number(id)) {
                (Value::None, _) => None,
                (_, Some(clamp)) if clamp > 0.0 => Some(clamp),
                _ => bail!("{}: expected a number as conv_clamp", printable(name)),
            };
            if is_named(name, "skip") {
                continue; // its result is bounded with that of the layers beside it
            }
            if *found.get_or_insert(clamp) != clamp {
                bail!("{}: expected one conv_clamp in all layers", printable(name));
            }
        }
        Ok(found.flatten())
    }

    fn mbstd_group_size(&self) -> Result<Option<usize>> {
        let module = self.modules.iter().find(|(name, _)| is_named(name, "mbstd"));
        let Some((_, state)) = module else { return Ok(None) };
        let Some(id) = self.table.member(*state, "group_size")? else { return Ok(None) };
        Ok(self.table.size(id))
    }

    /// Refuses a module that computes something else than ours of the same name.
    fn check_module(&self, name: &str, state: Id, architecture: Architecture) -> Result<()> {
        let is_mapping_layer = name.starts_with("mapping.fc");
        let is_linear =
            ["affine", "embed", "skip", "out"].iter().any(|linear| is_named(name, linear));
        let activation = if is_linear { "linear" } else { "lrelu" };
        let architecture = match architecture {
            Architecture::Orig => "orig",
            Architecture::Skip => "skip",
            Architecture::Resnet => "resnet",
        };
        for (key, expected) in [("activation", activation), ("architecture", architecture)] {
            let Some(id) = self.table.member(state, key)? else { continue };
            let text = self.table.name(id);
            if text != Some(expected) {
                let came = printable(text.unwrap_or("something else"));
                bail!("{}: expected {key} {expected}, got {came}", printable(name));
            }
        }
        if let Some(id) = self.table.member(state, "bias_gain")? {
            let expected = if is_mapping_layer { MAPPING_LR } else { 1.0 };
            let gain = self.table.number(id);
            if !gain.is_some_and(|gain| (gain - expected).abs() < 1e-6) {
                bail!("{}: expected lr_multiplier {expected}, got {gain:?}", printable(name));
            }
        }
        if let Some(id) = self.table.member(state, "use_noise")?
            && !matches!(self.table.get(id), Value::Bool(true))
        {
            bail!(
                "{}: expected use_noise True; layers without noise are not known here",
                printable(name)
            );
        }
        Ok(())
    }

    /// The values of all tensors but the filters, which are compared with ours.
    fn take(&self, weights: &mut Weights) -> Result<Vec<Named>> {
        let mut taken = Vec::new();
        for (name, lazy) in &self.tensors {
            let values = weights.values(lazy).map_err(|error| {
                candle_core::Error::msg(format!("{}: {error}", printable(name)))
            })?;
            if is_named(name, "resample_filter") {
                check_filter(name, &values, 1.0)?;
                continue;
            }
            taken.push(Named { name: name.clone(), dims: lazy.dims.clone(), values });
        }
        Ok(taken)
    }
}

/// Whether the last part of a name is `last`.
fn is_named(name: &str, last: &str) -> bool {
    name.rsplit('.').next() == Some(last)
}

/// Name of the class and attributes of a module.
fn module<'a>(table: &Table<'a>, id: Id) -> Result<(&'a str, Id)> {
    let Some([meta]) = table.args_of(id, Global::PersistentObject) else {
        bail!("expected a module of the StyleGAN2-ADA tools");
    };
    let what = "a module";
    let kind = table.name(table.expect(*meta, "type", what)?);
    let class = table.name(table.expect(*meta, "class_name", what)?);
    let state = table.expect(*meta, "state", what)?;
    match (kind, class) {
        (Some("class"), Some(class)) => Ok((class, state)),
        _ => bail!("expected a module with the name of its class"),
    }
}
