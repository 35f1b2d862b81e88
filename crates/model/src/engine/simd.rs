//! Picks the widest vectors at run time. The only unsafe code of the crate is here.
//!
//! A kernel is written once, as plain Rust that the compiler turns into vector code. `kernel!` compiles it twice on x86-64:
//! for what every such machine has (SSE2) and for AVX2. Both do the same operations on each output in the same order, so
//! the choice changes the time and not the bits. Elsewhere (wasm with or without simd128) the target's flags decide.

use std::sync::atomic::{AtomicBool, Ordering};

static BASELINE_ONLY: AtomicBool = AtomicBool::new(false);

/// Leaves out the vectors that not every machine has, for the whole process. There is no reason to, but to compare: the
/// results are the same to the bit.
pub fn use_baseline_vectors() {
    BASELINE_ONLY.store(true, Ordering::Relaxed);
}

#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn has_avx2() -> bool {
    !BASELINE_ONLY.load(Ordering::Relaxed) && std::arch::is_x86_feature_detected!("avx2")
}

/// Defines functions generic over `T: Real` that run with the widest vectors of the machine.
macro_rules! kernel {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name<T: Real>($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn written<T: Real>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                #[allow(clippy::too_many_arguments)]
                fn wide<T: Real>($($arg: $ty),*) $(-> $ret)? {
                    written($($arg),*)
                }
                if $crate::engine::simd::has_avx2() {
                    // SAFETY: `wide` needs AVX2 and nothing else; `has_avx2` has just found it on this machine.
                    return unsafe { wide($($arg),*) };
                }
            }
            written($($arg),*)
        }
    )*};
}
pub(crate) use kernel;
