//! Python's pickle format, data only.
