//! What may change when a run goes on, and what may not.

use serde_json::Value;

use super::config::TrainConfig;

/// Numbers that are always asked for anew.
const ASKED: [&str; 3] = ["total_kimg", "precision", "freezed"];
/// Numbers that may be asked for anew; those of the run, where nobody did.
const CHANGEABLE: [&str; 9] = [
    "g_lr",
    "d_lr",
    "r1_gamma",
    "pl_weight",
    "style_mixing_prob",
    "ema_kimg",
    "strength.fixed.p",
    "strength.adaptive.target",
    "strength.adaptive.kimg",
];
/// Numbers that are the run's, and must be repeated as they are where they are given. Its rounds may
/// have become smaller than those that it was given, so nobody is asked to repeat these.
const KEPT: [&str; 7] = [
    "batch",
    "batch_gpu",
    "d.mbstd_group_size",
    "d.conv_clamp",
    "g.conv_clamp",
    "ema_rampup",
    "d_warmup_kimg",
];

/// What a run was trained with differs from what is asked for, where it may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{field}: expected {kept}, as this training has it, came {asked}; give the parameters that it \
     began with"
)]
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
/// Length, precision and frozen layers are asked for; learning rates, gamma and the like are the
/// run's unless they are `given`; so are its batches, which cannot change; all else must be equal.
///
/// * `given` - which numbers somebody asked for by name, as paths like `d.mbstd_group_size`.
///
/// # Errors
/// Names the first number that differs and may not.
pub fn continued(
    asked: &TrainConfig,
    kept: &TrainConfig,
    given: &[&str],
) -> Result<TrainConfig, Mismatch> {
    let unreadable = |_| Mismatch {
        field: "config".to_owned(),
        kept: "one of this version".to_owned(),
        asked: "another".to_owned(),
    };
    let mut merged = serde_json::to_value(asked).map_err(unreadable)?;
    let kept = serde_json::to_value(kept).map_err(unreadable)?;
    for field in CHANGEABLE.iter().chain(&KEPT).filter(|field| !given.contains(field)) {
        let pointer = format!("/{}", field.replace('.', "/"));
        if let (Some(to), Some(from)) = (merged.pointer_mut(&pointer), kept.pointer(&pointer)) {
            *to = from.clone();
        }
    }
    match difference(&merged, &kept, "") {
        Some(mismatch) => Err(mismatch),
        None => serde_json::from_value(merged).map_err(unreadable),
    }
}

/// The first difference of two values that may not be there.
fn difference(asked: &Value, kept: &Value, path: &str) -> Option<Mismatch> {
    if ASKED.contains(&path) || CHANGEABLE.contains(&path) {
        return None;
    }
    if let (Value::Object(a), Value::Object(b)) = (asked, kept)
        && a.keys().eq(b.keys())
    {
        return a.iter().zip(b.values()).find_map(|((name, a), b)| {
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
    use crate::train::config::Strength;
    use crate::train::presets::{Cfg, Overrides, set_batch_gpu, train_config};

    fn config(batch: usize) -> TrainConfig {
        let strength = Strength::Adaptive { target: 0.6, kimg: 500.0 };
        let overrides =
            Overrides { batch: Some(batch), kimg: Some(2.0), strength, ..Overrides::default() };
        train_config(Cfg::Tiny, 16, 3, &overrides)
    }

    #[test]
    fn length_is_asked_for_and_rates_where_they_are_given() {
        let (freezed, total_kimg, precision) = (3, 4.0, Precision::Tf32);
        let strength = Strength::Adaptive { target: 0.5, kimg: 100.0 };
        let asked = TrainConfig { freezed, total_kimg, precision, ..config(16) };
        assert_eq!(continued(&asked, &config(16), &[]).as_ref(), Ok(&asked));
        let (g_lr, r1_gamma) = (0.1 + 0.2, 7.5);
        let rates = TrainConfig { g_lr, r1_gamma, strength, ..asked.clone() };
        assert_eq!(continued(&rates, &config(16), &[]).as_ref(), Ok(&asked));
        let given = ["g_lr", "r1_gamma", "strength.adaptive.target", "strength.adaptive.kimg"];
        assert_eq!(continued(&rates, &config(16), &given).as_ref(), Ok(&rates));
    }

    #[test]
    fn batches_and_the_begin_are_the_run_s() {
        let mut kept = TrainConfig { ema_rampup: None, d_warmup_kimg: 2.0, ..config(8) };
        set_batch_gpu(&mut kept, 2);
        (kept.g.conv_clamp, kept.d.conv_clamp) = (None, None);
        let asked = TrainConfig { r1_gamma: kept.r1_gamma, ..config(16) };
        assert_eq!(continued(&asked, &kept, &[]), Ok(kept));
    }

    #[test]
    fn what_differs_otherwise_is_named() {
        let field = |asked: &TrainConfig, given: &[&str]| {
            continued(asked, &config(16), given).unwrap_err().field
        };
        assert_eq!(field(&config(8), &["batch"]), "batch");
        let seed = TrainConfig { seed: 1, ..config(16) };
        let mismatch = continued(&seed, &config(16), &[]).unwrap_err().to_string();
        let begin = "seed: expected 0, as this training has it, came 1; ";
        assert!(mismatch.starts_with(begin), "{mismatch}");
        let mut asked = config(16);
        asked.g.img_resolution = 32;
        assert_eq!(field(&asked, &[]), "g.img_resolution");
        for strength in [Strength::Off, Strength::Fixed { p: 0.6 }] {
            let asked = TrainConfig { strength, ..config(16) };
            assert_eq!(field(&asked, &["strength.fixed.p"]), "strength");
        }
    }
}
