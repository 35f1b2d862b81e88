//! The numerics: forward and backward passes whose bits depend on nothing but their inputs.
//!
//! Three rules make that hold, and every function below keeps them:
//! 1. One output number is one chain of operations in a fixed order. Vector instructions, cache blocks and threads run
//!    *across* outputs, never along a sum.
//! 2. Only operations that IEEE 754 rounds exactly (`+ - * /`, `sqrt`, comparisons) and functions that are written in
//!    Rust here or in `libm`. No fused multiply-add: one machine has it and the next has not.
//! 3. Where a sum runs over a long row, it has 16 partial sums by index modulo 16, added up in order: the rule is part of
//!    the result, not of the machine.
//!
//! The code is generic over [`Real`], so that tests check the gradients of the very same code in `f64`.

pub(crate) mod backward;
pub(crate) mod forward;
pub(crate) mod gemm;
pub(crate) mod kernels;
pub(crate) mod matrices;
mod real;
#[macro_use]
pub(crate) mod simd;
pub(crate) mod slots;

pub(crate) use real::Real;
