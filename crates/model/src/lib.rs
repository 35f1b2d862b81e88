//! A small language model, trained and sampled for real, with the same bits everywhere.
