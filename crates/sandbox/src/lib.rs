//! The embedded Tinker service.
