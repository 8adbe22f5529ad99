//! The commands a person runs at home, where the job has no part.

#[cfg_attr(not(test), expect(dead_code, reason = "the demo command is the one to draw it"))]
mod demo_set;
