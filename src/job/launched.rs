//! What the program and its launcher (`src/launcher`, which includes this file) agree on.

/// Root of the job's folders where none is named.
pub(crate) const ROOT: &str = "/data";
/// The hidden flag by which the launcher says that it is there, without its hyphens.
pub(crate) const NAME: &str = "launched";
/// The folder below the root in which files are made before they are renamed into `outputs`.
pub(crate) const STAGING: &str = ".tmp-stylegan2-c2d";
/// Most characters of a line of the log.
pub(crate) const MAX_LINE: usize = 2000;
