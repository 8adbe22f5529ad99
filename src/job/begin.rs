//! How a run begins: fresh, from a trained generator, or where another run was.

use anyhow::Result;
use tracing::info;

use super::keeper::Set;
use super::params::Params;
use super::resolve::Origin;
use super::resume::Source;
use super::run::Run;
use super::state::{StateError, StateReader};
use super::table::StateKind;
use crate::data::Dataset;
use crate::model::Store;
use crate::model::weights::Header;
use crate::train::config::TrainConfig;
use crate::train::continued::continued;

/// What a run begins with.
pub(super) enum Begin {
    Fresh,
    Weights(Box<Header>, Store),
    State(Box<StateReader>),
}

impl Begin {
    /// Opens what there is to open with the set at hand, which is returned where it is needed for
    /// more.
    ///
    /// # Errors
    /// Fails if a state is of another set, or damaged.
    pub(super) fn of(
        source: Option<Source>,
        dataset: &Dataset,
        params: &Params,
    ) -> Result<(Self, Option<Set>), StateError> {
        let set = || Set::of(dataset, params);
        let keeps = params.state != StateKind::Off;
        Ok(match source {
            None => (Self::Fresh, keeps.then(set)),
            Some(Source::Weights(header, store)) => (Self::Weights(header, store), keeps.then(set)),
            Some(Source::State(file)) => {
                let set = set();
                (Self::State(Box::new(set.open(file)?)), Some(set))
            }
        })
    }

    /// What it is, as far as parameters depend on it.
    pub(super) fn origin(&self) -> Origin {
        match self {
            Self::Fresh => Origin::Fresh,
            Self::Weights(..) => Origin::Weights,
            Self::State(_) => Origin::State,
        }
    }

    /// The configuration of the run, where `asked` was asked for.
    ///
    /// # Errors
    /// Fails if a state cannot go on like that, or is at its end.
    pub(super) fn config(
        &self,
        asked: TrainConfig,
        params: &Params,
    ) -> Result<TrainConfig, StateError> {
        let Self::State(state) = self else { return Ok(asked) };
        let given: Vec<&str> = params.given().collect();
        let config = continued(&asked, &state.record.config, &given)?;
        let shown_kimg = state.record.counters.cur_nimg as f64 / 1000.0;
        let asked_kimg = config.total_kimg;
        if shown_kimg >= asked_kimg {
            return Err(StateError::NothingLeft { shown_kimg, asked_kimg });
        }
        info!("continues a training of {shown_kimg:.3} kimg, up to {asked_kimg} in all");
        Ok(config)
    }

    /// Puts it into the run, before the first step.
    ///
    /// # Errors
    /// Fails if a state is damaged, or a device fails.
    pub(super) fn enter(self, run: &mut Run) -> Result<()> {
        match self {
            Self::Fresh => (),
            Self::Weights(header, store) => run.start_from(&header, &store)?,
            Self::State(state) => run.resume(*state)?,
        }
        Ok(())
    }
}
