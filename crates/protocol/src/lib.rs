//! The messages of the Tinker training API: ids, JSON bodies, protobuf.
