//! A file for each subcommand, and what several of them do.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod devices;
pub(crate) mod docs;
pub(crate) mod eval;
pub(crate) mod plan;
pub(crate) mod reproduce;
mod setup;
pub(crate) mod soak;
pub(crate) mod study;
mod timeline;
pub(crate) mod train;
