//! Gradients of any order, in the order they were asked for: the only door to them.
//!
//! A pass goes from the loss back through the ops that lie between it and the variables asked for,
//! youngest first, so that each op has its whole gradient when its turn comes. [`grad`] is the last
//! pass over a graph: it takes the graph apart as it goes, and its results are constants.
//! [`grad_with_graph`] leaves the graph as it is and traces the pass itself, for R1 and path length
//! differentiate a gradient.
//!
//! What the loss does not depend on has gradient zero.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use candle_core::{Result, Tensor, TensorId, Var, bail};

use super::traced::{Node, Origin, Traced, Wanted, untraced};

/// Gradients of `loss` (a scalar) with respect to `wrt`, variables or results of ops, as constants.
///
/// The graph behind `loss` is used up: its values are freed on the way.
///
/// # Errors
/// Fails if the loss has several elements, if the graph is used up already, or if an op fails.
#[expect(clippy::needless_pass_by_value, reason = "there is nothing left to ask of it")]
pub fn grad(loss: Traced, wrt: &[Traced]) -> Result<Vec<Tensor>> {
    let grads = untraced(|| backward(&loss, wrt, false))?;
    grads.iter().map(|grad| grad.value().contiguous()).collect()
}

/// Gradients of `loss` (a scalar) with respect to `wrt`, themselves differentiable.
///
/// # Errors
/// As [`grad`].
pub fn grad_with_graph(loss: &Traced, wrt: &[Traced]) -> Result<Vec<Traced>> {
    backward(loss, wrt, true)
}

/// Variables, to ask for their gradients.
pub fn leaves(vars: &[Var]) -> Vec<Traced> {
    vars.iter().map(Traced::variable).collect()
}

/// What a gradient is of.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Leaf(TensorId),
    Op(u64),
}

impl From<&Origin> for Key {
    fn from(origin: &Origin) -> Self {
        match origin {
            Origin::Leaf(id) => Self::Leaf(*id),
            Origin::Op(node) => Self::Op(node.order),
        }
    }
}

/// Gradients that are still sums in the making.
#[derive(Default)]
struct Sums {
    /// Of ops, by age.
    ops: BTreeMap<u64, (Arc<Node>, Traced)>,
    leaves: HashMap<TensorId, Traced>,
}

impl Sums {
    fn add(&mut self, origin: &Origin, grad: Traced) -> Result<()> {
        match origin {
            Origin::Leaf(id) => {
                let sum = match self.leaves.remove(id) {
                    Some(sum) => (sum + grad)?,
                    None => grad,
                };
                self.leaves.insert(*id, sum);
            }
            Origin::Op(node) => {
                let sum = match self.ops.remove(&node.order) {
                    Some((_, sum)) => (sum + grad)?,
                    None => grad,
                };
                self.ops.insert(node.order, (node.clone(), sum));
            }
        }
        Ok(())
    }
}

fn backward(loss: &Traced, wrt: &[Traced], keep_graph: bool) -> Result<Vec<Traced>> {
    if loss.elem_count() != 1 {
        bail!("gradient: expected a loss of one element, got {:?}", loss.shape());
    }
    let wanted: HashSet<Key> = wrt.iter().filter_map(Traced::origin).map(Key::from).collect();
    let mut results = HashMap::new();
    let mut sums = Sums::default();
    if let Some(origin) = loss.origin() {
        let leads = leading_to(origin, &wanted)?;
        sums.add(origin, Traced::constant(&loss.value().ones_like()?))?;
        while let Some((order, (node, dy))) = sums.ops.pop_last() {
            let rule = node.rule()?;
            if !keep_graph {
                node.use_up();
            }
            let leads_on = |input: &Option<Origin>| {
                input.as_ref().is_some_and(|input| leads.contains(&Key::from(input)))
            };
            let needed: Vec<bool> = rule.inputs.iter().map(leads_on).collect();
            if needed.contains(&true) {
                let grads = (rule.backward)(&dy, Wanted(&needed))?;
                for (input, grad) in rule.inputs.iter().zip(grads) {
                    if let (Some(input), Some(grad)) = (input, grad) {
                        sums.add(input, grad)?;
                    }
                }
            }
            if wanted.contains(&Key::Op(order)) {
                results.insert(Key::Op(order), dy);
            }
        }
    }
    results.extend(sums.leaves.into_iter().map(|(id, grad)| (Key::Leaf(id), grad)));
    let result = |of: &Traced| match of.origin().and_then(|origin| results.get(&Key::from(origin)))
    {
        Some(grad) => Ok(grad.clone()),
        None => Ok(Traced::constant(&of.value().zeros_like()?)),
    };
    wrt.iter().map(result).collect()
}

/// What lies between `end` and `wanted`, both included.
fn leading_to(end: &Origin, wanted: &HashSet<Key>) -> Result<HashSet<Key>> {
    // Oldest first, an op leads on if any of its arguments does.
    let mut ops: BTreeMap<u64, Arc<Node>> = BTreeMap::new();
    let mut open = vec![end.clone()];
    while let Some(origin) = open.pop() {
        let Origin::Op(node) = origin else { continue };
        if let Entry::Vacant(place) = ops.entry(node.order) {
            open.extend(node.rule()?.inputs.iter().flatten().cloned());
            place.insert(node);
        }
    }
    let mut leads = wanted.clone();
    for (order, node) in ops {
        let rule = node.rule()?;
        if rule.inputs.iter().flatten().any(|input| leads.contains(&Key::from(input))) {
            leads.insert(Key::Op(order));
        }
    }
    Ok(leads)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::ops::bias_act::Activation;
    use crate::ops::cost::counted;
    use crate::ops::selftest::Draws;
    use crate::ops::{add_noise, bias_act, channel_scale, conv2d};

    fn scalar(value: f64) -> Result<Traced> {
        Ok(Traced::variable(&Var::new(value, &Device::Cpu)?))
    }

    fn value(x: &Traced) -> Result<f64> {
        x.value().to_scalar()
    }

    #[test]
    fn gradients_come_in_the_order_asked_for_and_absent_ones_are_zero() -> Result<()> {
        let (a, b) = (scalar(3.0)?, scalar(5.0)?);
        let unused = Draws::new(0).variable(2)?;
        let loss = (a.sqr()? * &b)?;
        let grads = grad(loss, &[b, unused, a])?;
        assert_eq!(grads[0].to_scalar::<f64>()?, 9.0);
        assert_eq!(grads[1].to_vec1::<f64>()?, [0.0, 0.0]);
        assert_eq!(grads[2].to_scalar::<f64>()?, 30.0);
        Ok(())
    }

    /// `y = x^2` in the middle of `y^3`, at x = 2: `3 y^2` and `6 x^5`.
    #[test]
    fn results_of_ops_have_gradients_too() -> Result<()> {
        let x = scalar(2.0)?;
        let y = x.sqr()?;
        let cube = (y.sqr()? * &y)?;
        let grads = grad_with_graph(&cube, &[y, x])?;
        assert_eq!((value(&grads[0])?, value(&grads[1])?), (48.0, 192.0));
        Ok(())
    }

    /// `x^4` at 2: 32, 48, 48.
    #[test]
    fn a_gradient_with_graph_can_be_differentiated_twice() -> Result<()> {
        let x = scalar(2.0)?;
        let wrt = std::slice::from_ref(&x);
        let first = grad_with_graph(&x.sqr()?.sqr()?, wrt)?.remove(0);
        let second = grad_with_graph(&first, wrt)?.remove(0);
        assert_eq!((value(&first)?, value(&second)?), (32.0, 48.0));
        assert_eq!(grad(second, wrt)?[0].to_scalar::<f64>()?, 48.0);
        Ok(())
    }

    #[test]
    fn a_graph_is_used_up_by_its_last_pass() -> Result<()> {
        let x = scalar(2.0)?;
        let y = x.sqr()?;
        grad_with_graph(&y, std::slice::from_ref(&x))?;
        grad(y.clone(), std::slice::from_ref(&x))?;
        let message = grad(y, &[x]).unwrap_err().to_string();
        assert!(message.contains("no pass has used up"), "{message}");
        let pair = Draws::new(0).variable(2)?;
        assert!(grad(pair.clone(), &[pair]).is_err(), "a loss of two elements");
        Ok(())
    }

    #[test]
    fn only_what_is_asked_for_is_computed() -> Result<()> {
        let mut draws = Draws::new(1);
        let (x, w) = (draws.variable((2, 3, 4, 4))?, draws.variable((5, 3, 3, 3))?);
        let (s, b, strength) = (draws.variable((2, 5))?, draws.variable(5)?, draws.variable(())?);
        let noise = draws.normals((1, 1, 4, 4))?;
        let layer = || {
            let y = channel_scale(&conv2d(&x, &w, 1, 1, 1.0)?, &s)?;
            let y = add_noise(&y, &noise, &strength)?;
            bias_act(&y, Some(&b), Activation::LRELU, 1.0, None)?.sum_all()
        };
        let ops_for = |wrt: &Traced| -> Result<Vec<String>> {
            let (_, account) = counted(|| grad(layer()?, std::slice::from_ref(wrt)))?;
            let names = account.entries.into_iter().filter(|(_, tally)| tally.launches > 0.0);
            Ok(names.map(|(name, _)| name.split(' ').next().unwrap_or_default().into()).collect())
        };
        let conv = ["conv2d", "conv2d-grad-input", "conv2d-grad-weight"];
        let has = |ops: &[String], name: &str| ops.iter().any(|op| op == name);
        for (wrt, expected) in [(&x, [true, true, false]), (&w, [true, false, true])] {
            let ops = ops_for(wrt)?;
            assert_eq!(conv.map(|name| has(&ops, name)), expected, "{ops:?}");
            assert!(!has(&ops, "sum") && !has(&ops, "noise_dot"), "{ops:?}");
        }
        for wrt in [&s, &strength, &b] {
            let ops = ops_for(wrt)?;
            assert_eq!(conv.map(|name| has(&ops, name)), [true, false, false], "{ops:?}");
        }
        Ok(())
    }
}
