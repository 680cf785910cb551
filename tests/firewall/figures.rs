//! What a ban costs.
