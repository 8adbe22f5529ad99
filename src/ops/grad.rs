//! Gradients of any order, in the order they were asked for: the only door to `backward`.
//!
//! R1 and path length differentiate a gradient. candle keeps the graph of a gradient only where
//! `CANDLE_GRAD_DO_NOT_DETACH` is set, reads that once per thread, and is silently wrong without
//! it, so each thread proves it once. With it, a plain first-order pass would keep every
//! intermediate gradient alive too; therefore [`grad`] tells our own ops to cut the graph
//! (`cut`), and both functions tell them which variables matter (`wants`), so that no weight
//! gradient is computed that nobody asked for.
//!
//! A variable that the loss does not depend on has gradient zero.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use candle_core::{Device, Result, Tensor, TensorId, Var, bail};

use super::cost;

/// What the ops' backward passes need to know about the pass that is running.
struct Pass {
    keep_graph: bool,
    wanted: HashSet<TensorId>,
}

thread_local! {
    static PASS: RefCell<Option<Pass>> = const { RefCell::new(None) };
    static PROBED: Cell<bool> = const { Cell::new(false) };
}

/// Gradients of `loss` (a scalar) with respect to `vars`, as constants.
///
/// # Errors
/// Fails if this thread cannot differentiate twice (see [`probe`]) or if an op fails.
pub fn grad(loss: &Tensor, vars: &[&Var]) -> Result<Vec<Tensor>> {
    let grads = backward(loss, vars, false)?;
    Ok(grads.into_iter().map(|g| g.detach()).collect())
}

/// Gradients of `loss` (a scalar) with respect to `vars`, themselves differentiable.
///
/// # Errors
/// As [`grad`].
pub fn grad_with_graph(loss: &Tensor, vars: &[&Var]) -> Result<Vec<Tensor>> {
    backward(loss, vars, true)
}

/// Proves once per thread that a gradient can be differentiated: `(x^3)''` at 2 is 12, but 8 if
/// candle detaches gradients.
///
/// # Errors
/// Fails, with the cure, where it is not so.
pub fn probe() -> Result<()> {
    if PROBED.get() {
        return Ok(());
    }
    PROBED.set(true);
    let x = Var::new(2f64, &Device::Cpu)?;
    let cube = x.mul(&x)?.mul(&x)?;
    let slope = grad_with_graph(&cube, &[&x])?.remove(0);
    let curvature = grad(&slope, &[&x])?.remove(0).to_scalar::<f64>()?;
    if curvature != 12.0 {
        PROBED.set(false);
        bail!(
            "second-order gradients are cut off: expected (x^3)'' = 12 at x = 2, came {curvature}; \
             set CANDLE_GRAD_DO_NOT_DETACH=1 before the first thread starts"
        );
    }
    Ok(())
}

fn backward(loss: &Tensor, vars: &[&Var], keep_graph: bool) -> Result<Vec<Tensor>> {
    probe()?;
    cost::backward(loss, keep_graph);
    let mut store = in_pass(vars, keep_graph, || loss.backward())?;
    vars.iter()
        .map(|var| match store.remove(var) {
            Some(grad) => Ok(grad),
            None => var.zeros_like(),
        })
        .collect()
}

/// Runs `work`, a backward pass or part of one, for the gradients of `vars`.
pub(super) fn in_pass<T>(vars: &[&Var], keep_graph: bool, work: impl FnOnce() -> T) -> T {
    let wanted = vars.iter().map(|var| var.id()).collect();
    let outer = PASS.replace(Some(Pass { keep_graph, wanted }));
    let result = work();
    PASS.replace(outer);
    result
}

/// For a backward pass: `tensor` itself if the gradient will be differentiated, else a constant.
pub(super) fn cut(tensor: &Tensor) -> Tensor {
    let keep = PASS.with_borrow(|pass| pass.as_ref().is_none_or(|pass| pass.keep_graph));
    if keep { tensor.clone() } else { tensor.detach() }
}

/// For a backward pass: whether anybody needs the gradient of this argument.
pub(super) fn wants(arg: &Tensor) -> bool {
    let asked = |pass: &Pass| !arg.is_variable() || pass.wanted.contains(&arg.id());
    arg.track_op() && PASS.with_borrow(|pass| pass.as_ref().is_none_or(asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_come_in_the_order_asked_for_and_absent_ones_are_zero() -> Result<()> {
        let a = Var::new(3f64, &Device::Cpu)?;
        let b = Var::new(5f64, &Device::Cpu)?;
        let unused = Var::new(&[1f64, 2.0], &Device::Cpu)?;
        let loss = (a.sqr()? * b.as_tensor())?;
        let grads = grad(&loss, &[&b, &unused, &a])?;
        assert_eq!(grads[0].to_scalar::<f64>()?, 9.0);
        assert_eq!(grads[1].to_vec1::<f64>()?, [0.0, 0.0]);
        assert_eq!(grads[2].to_scalar::<f64>()?, 30.0);
        assert!(!grads[2].track_op());
        Ok(())
    }

    /// `cut` and `wants` inside a pass and outside of one, where nothing is known.
    #[test]
    fn a_pass_tells_ops_what_is_wanted_and_whether_to_keep_the_graph() -> Result<()> {
        let (a, b) = (Var::new(1f64, &Device::Cpu)?, Var::new(2f64, &Device::Cpu)?);
        let (constant, product) = (a.as_detached_tensor(), (a.as_tensor() * b.as_tensor())?);
        let wanted = || [a.as_tensor(), b.as_tensor(), &product, &constant].map(wants);
        for keep_graph in [false, true] {
            let (wanted, cut) = in_pass(&[&a], keep_graph, || (wanted(), cut(&product)));
            assert_eq!(wanted, [true, false, true, false]);
            assert_eq!(cut.track_op(), keep_graph);
        }
        assert_eq!(wanted(), [true, true, true, false]);
        assert!(cut(&product).track_op());
        Ok(())
    }

    /// Runs itself once more without the variable, where candle detaches gradients.
    #[test]
    fn without_the_variable_the_probe_says_how_to_cure_it() -> Result<()> {
        const VARIABLE: &str = "CANDLE_GRAD_DO_NOT_DETACH";
        if std::env::var_os(VARIABLE).is_none() {
            let x = Var::new(1f64, &Device::Cpu)?;
            for result in [grad(&x, &[&x]), grad_with_graph(&x, &[&x])] {
                let message = result.unwrap_err().to_string();
                assert!(message.contains("set CANDLE_GRAD_DO_NOT_DETACH=1"), "{message}");
            }
            return Ok(());
        }
        let name = std::thread::current().name().unwrap().to_owned();
        let child = std::process::Command::new(std::env::current_exe()?)
            .args(["--exact", &name])
            .env_remove(VARIABLE)
            .output()?;
        let report = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && report.contains("1 passed"), "{report}");
        Ok(())
    }

    #[test]
    fn a_gradient_with_graph_can_be_differentiated_twice() -> Result<()> {
        let x = Var::new(2f64, &Device::Cpu)?;
        let y = x.powf(4.0)?;
        let first = grad_with_graph(&y, &[&x])?.remove(0);
        let second = grad_with_graph(&first, &[&x])?.remove(0);
        let third = grad(&second, &[&x])?.remove(0);
        assert!((third.to_scalar::<f64>()? - 48.0).abs() < 1e-9);
        Ok(())
    }
}
