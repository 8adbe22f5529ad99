//! What may change when a run goes on, and what may not.

use serde_json::Value;

use super::config::TrainConfig;

/// Numbers of a [`TrainConfig`] that may be asked for anew when a run goes on.
const ASKED: [&str; 4] = ["total_kimg", "lr", "r1_gamma", "precision"];
/// Numbers that a run keeps as it has them: where its rounds became smaller, and how it began.
const KEPT: [&str; 3] = ["batch_gpu", "d.mbstd_group_size", "ema_rampup"];

/// What a run was trained with differs from what is asked for, where it may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {kept}, as this training has it, came {asked}")]
pub struct Mismatch {
    /// Where, in the words of the header of `generator.safetensors`.
    pub field: String,
    /// What the run has.
    pub kept: String,
    /// What is asked for.
    pub asked: String,
}

/// The configuration with which a run of configuration `kept` goes on when `asked` is asked for.
///
/// Its length, learning rate, gamma and precision are asked for; `batch_gpu` and how it began are
/// the run's; everything else must be equal.
///
/// # Errors
/// Names the first number that differs and may not.
pub fn continued(
    asked: &TrainConfig,
    kept: &TrainConfig,
) -> std::result::Result<TrainConfig, Mismatch> {
    let unreadable = |_| Mismatch {
        field: "config".to_owned(),
        kept: "a configuration of this version".to_owned(),
        asked: "another".to_owned(),
    };
    let mut asked = serde_json::to_value(asked).map_err(unreadable)?;
    let kept = serde_json::to_value(kept).map_err(unreadable)?;
    for field in KEPT {
        let pointer = format!("/{}", field.replace('.', "/"));
        if let (Some(to), Some(from)) = (asked.pointer_mut(&pointer), kept.pointer(&pointer)) {
            *to = from.clone();
        }
    }
    match difference(&asked, &kept, "") {
        Some(mismatch) => Err(mismatch),
        None => serde_json::from_value(asked).map_err(unreadable),
    }
}

/// The first difference of two values that may not be there.
fn difference(asked: &Value, kept: &Value, path: &str) -> Option<Mismatch> {
    if ASKED.contains(&path) {
        return None;
    }
    if let (Value::Object(a), Value::Object(b)) = (asked, kept) {
        return a.iter().zip(b).find_map(|((name, a), (_, b))| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            difference(a, b, &path)
        });
    }
    (asked != kept).then(|| Mismatch {
        field: path.to_owned(),
        kept: kept.to_string(),
        asked: asked.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Precision;
    use crate::train::presets::{Cfg, Overrides, set_batch_gpu, train_config};

    fn config(batch: usize) -> TrainConfig {
        let overrides = Overrides { batch: Some(batch), kimg: Some(2.0), ..Overrides::default() };
        train_config(Cfg::Tiny, 16, 3, &overrides)
    }

    #[test]
    fn length_and_rates_are_asked_for() {
        let kept = config(16);
        let precision = Precision::Tf32;
        let (total_kimg, lr, r1_gamma) = (4.0, 0.1 + 0.2, 7.5);
        let asked = TrainConfig { total_kimg, lr, r1_gamma, precision, ..config(16) };
        assert_eq!(continued(&asked, &kept), Ok(asked));
    }

    #[test]
    fn rounds_and_the_begin_are_the_run_s() {
        let mut kept = TrainConfig { ema_rampup: None, ..config(16) };
        set_batch_gpu(&mut kept, 2);
        assert_eq!(continued(&config(16), &kept), Ok(kept));
    }

    #[test]
    fn what_differs_otherwise_is_named() {
        let mismatch = continued(&config(8), &config(16)).unwrap_err();
        assert_eq!(mismatch.to_string(), "batch: expected 16, as this training has it, came 8");
        let mut asked = config(16);
        asked.g.img_resolution = 32;
        assert_eq!(continued(&asked, &config(16)).unwrap_err().field, "g.img_resolution");
        let seed = TrainConfig { seed: 1, ..config(16) };
        assert_eq!(continued(&seed, &config(16)).unwrap_err().field, "seed");
    }
}
