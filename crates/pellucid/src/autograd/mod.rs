//! The tape: records operations, plans memory, walks back.

mod op;

pub use op::{
    Backward, Forward, Grad, Inference, InferenceOp, MAX_OPERANDS, Needs, Op, Operands, RunInfo,
};
