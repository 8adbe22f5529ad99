//! The names of the files that a run can leave.

use std::ffi::OsStr;

/// A file of the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutputName {
    /// The latest generator.
    Generator,
    /// The generator that was nearest to the data.
    BestGenerator,
    /// The latest grid of samples.
    Samples,
    /// The grid after so many images shown.
    SamplesAt(u64),
    /// What a later run needs to go on.
    State,
}

impl OutputName {
    /// Whether it tells more than samples do.
    pub(super) fn is_weights(self) -> bool {
        match self {
            Self::Generator | Self::BestGenerator | Self::State => true,
            Self::Samples | Self::SamplesAt(_) => false,
        }
    }

    /// The name in the folder.
    pub(super) fn file_name(self) -> String {
        match self {
            Self::Generator => "generator.safetensors".to_owned(),
            Self::BestGenerator => "generator-best.safetensors".to_owned(),
            Self::Samples => "samples.png".to_owned(),
            Self::SamplesAt(num_images) => format!("samples-{num_images:09}.png"),
            Self::State => "state.safetensors".to_owned(),
        }
    }

    /// Whether a file of some run has this name.
    pub(super) fn is_one(name: &OsStr) -> bool {
        let Some(name) = name.to_str() else { return false };
        let number = name.strip_prefix("samples-").and_then(|name| name.strip_suffix(".png"));
        let number = number.and_then(|number| number.parse().ok()).map(Self::SamplesAt);
        [Self::Generator, Self::BestGenerator, Self::Samples, Self::State]
            .into_iter()
            .chain(number)
            .any(|one| one.file_name() == name)
    }
}
