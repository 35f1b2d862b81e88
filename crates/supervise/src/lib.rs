//! OTP supervision for a single-threaded executor.
