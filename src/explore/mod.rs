//! A page that shows in a browser what a generator can make, served to this machine alone.
//!
//! Everything is GET. A state of the page is a query: `seed`, `psi`, `class`, `noise` (const, random,
//! none), `noise_seed`, `mix` (a second seed), `mix_layers` (such as 4-7), `mix_share` (0 to 1),
//! `layers` and `by` (ways along the first directions of these layers, with commas); what is absent
//! has the defaults of `generate`. The same text stands behind the `#` of the page's address.
//!
//! | path | answer |
//! |---|---|
//! | `/`, `/page/NAME` | the page and its parts |
//! | `/api/facts` | JSON: the model, bounds, where the page starts |
//! | `/api/picture?STATE` | PNG, with its recipe as `generate` writes it |
//! | `/api/latents?STATE` | safetensors for `generate --w`: `ws` as shown, truncation included |
//! | `/api/frame?from=STATE&to=STATE&at=T` | PNG of what lies between two states, T from 0 to 1 |
//! | `/api/directions?layers=0-7` | JSON: strengths of the directions of these layers |
//!
//! More parameters, all optional: `model`, the first figures of the weights' BLAKE3, refuses a page
//! that was made for others; `rank` (shown, frame, wall) and `page` (any word) say what may wait and
//! what is stale (`queue`). A refusal is JSON `{"error": WORDS}`: 400 a parameter, 403 a request
//! from elsewhere (`guard`), 409 something newer was asked for, 410 other weights, 503 too many
//! requests or the end.
//!
//! One thread makes pictures and another one answers. The same state gives the same picture, that of
//! `generate`, `mix` and `directions`, since it goes through the same recipe.
//!
//! Not here: how pictures are made (`latent`), files on disk (there are none), flags (`cli`).

mod facts;
mod guard;
mod page;
mod queue;
mod server;
mod state;

pub use facts::Start;
pub use server::Explorer;
