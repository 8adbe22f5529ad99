//! How large the files of a run can become: said before the start, and held to.
//!
//! A node counts what lies on its disk, and takes a job's all from it where that is too much.

use tracing::{info, warn};

use super::{MAX_GRIDS, OutputName};

/// What a header can take beside its statistics, and for each entry of these, written in JSON that is
/// itself written in JSON; a class's name takes less.
const HEADER_BYTES: u64 = 1 << 20;
const ENTRY_BYTES: u64 = 512;

/// The most bytes of each file.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    generator: u64,
    grid: u64,
    state: u64,
}

/// Without an announcement: anything.
impl Default for Budget {
    fn default() -> Self {
        Self { generator: u64::MAX, grid: u64::MAX, state: u64::MAX }
    }
}

impl Budget {
    /// * `num_weights` - of the generator.
    /// * `num_pixels` - of a grid.
    /// * `state_bytes` - of the state without its record, where there is one.
    /// * `num_entries`, `num_labels` - of the statistics at the end, and classes that may have names.
    pub fn new(
        num_weights: u64,
        num_pixels: u64,
        state_bytes: Option<u64>,
        (num_entries, num_labels): (u64, u64),
    ) -> Self {
        let header = HEADER_BYTES + ENTRY_BYTES * (num_entries + num_labels);
        Self {
            generator: 4 * num_weights + header,
            // What a compressor makes of noise is hardly more than the noise.
            grid: 3 * num_pixels + num_pixels / 16 + (64 << 10),
            state: state_bytes.map_or(0, |bytes| bytes + header),
        }
    }

    /// The most bytes of a file.
    pub(super) fn limit(&self, name: OutputName) -> u64 {
        match name {
            OutputName::Generator | OutputName::BestGenerator => self.generator,
            OutputName::Samples | OutputName::SamplesAt(_) => self.grid,
            OutputName::State => self.state,
        }
    }

    /// All files at once, and the largest, which is there twice while it is replaced.
    fn bytes(&self, takes_weights: bool) -> [u64; 2] {
        let [generator, state] = if takes_weights { [self.generator, self.state] } else { [0; 2] };
        let grids = (MAX_GRIDS as u64 + 2) * self.grid; // with the latest, and one before it is thinned
        [2 * generator + state + grids, generator.max(state).max(self.grid)]
    }

    /// Says it, and whether the volume has as much.
    pub(super) fn announce(&self, takes_weights: bool, free_bytes: Option<u64>) {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let [all, largest] = self.bytes(takes_weights);
        info!(
            "outputs: at most {:.1} MB, and {:.1} MB more while a file replaces another",
            mb(all),
            mb(largest)
        );
        if free_bytes.is_some_and(|free| free < all + largest) {
            warn!("outputs: the volume may have too little space left"); // the inputs may be on it
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_is_everything_at_once() {
        let budget = Budget::new(1000, 256, Some(50_000), (8, 2));
        let [generator, grid, state] =
            [OutputName::Generator, OutputName::Samples, OutputName::State]
                .map(|it| budget.limit(it));
        assert_eq!(generator, 4000 + HEADER_BYTES + 10 * ENTRY_BYTES);
        assert_eq!(state, 50_000 + HEADER_BYTES + 10 * ENTRY_BYTES);
        assert_eq!(budget.bytes(true), [2 * generator + state + 14 * grid, state]);
        assert_eq!(budget.bytes(false), [14 * grid, grid]);
    }
}
