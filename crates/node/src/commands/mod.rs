//! One file a command of the program.

mod check;
mod detach;
mod drain;
mod lab;
mod probe;
mod relay;
mod run;
mod status;

pub(crate) use check::check;
pub(crate) use detach::detach;
pub(crate) use drain::drain;
pub(crate) use lab::lab;
pub(crate) use probe::probe;
pub(crate) use relay::relay;
pub(crate) use run::run;
pub(crate) use status::status;
