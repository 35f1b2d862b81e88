//! Random sequences of events against the invariants of a supervisor.
