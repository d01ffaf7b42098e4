//! The tape: records operations, plans memory, walks back.
//!
//! [`Tape`] records operations in order. [`Plan`] turns it into a schedule: forward, backward, what is computed
//! again, and a place in one arena for everything, so memory is known before the first step and a step allocates
//! no tensor. [`Session`] owns that memory and runs the schedule.
//!
//! This room does not know any operation by name.

mod arena;
mod op;
mod plan;
mod planner;
mod session;
mod tape;
#[cfg(test)]
mod tests;

pub use op::{
    Backward, Forward, Grad, Inference, InferenceOp, MAX_OPERANDS, Needs, Op, Operands, RunInfo,
};
pub use plan::{Plan, Recompute, Training};
pub use session::{ParamGrads, Session, Timing, UNWRITTEN};
pub use tape::{Ints, Param, State, Tape, Value};
